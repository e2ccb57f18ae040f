/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * life.h - how far a flow is: rule 2.6.
 *
 * Only as much of TCP's states as tells how long silence may last, and when a
 * tuple may be used again. The flow's two entries are kept the same.
 */
#pragma once

#include "flow.h"

/* next_state is the state that follows when neither RST nor FIN is set. */
static __always_inline __u8 next_state(__u8 proto, __u8 flags, __u8 dir, __u8 state)
{
	if (dir == DIR_REPLY)
		return state == FLOW_NEW ? FLOW_ANSWERED : state;
	if (state != FLOW_ANSWERED)
		return state;
	if (proto == IPPROTO_TCP && FAULT(65, (flags & (TCP_SYN | TCP_ACK)) != TCP_ACK, false))
		return state; /* whoever forges an address never sees what it would acknowledge */
	return FLOW_ESTABLISHED;
}

/* aborted is the state after a reset in direction dir. */
static __always_inline __u8 aborted(__u8 dir)
{
	return FLOW_ABORTED_FORWARD + dir;
}

/* after_reset is the state that follows a reset: it may have been forged, see next_life(). */
static __always_inline __u8 after_reset(__u8 dir, __u8 state)
{
	if (state < FLOW_ESTABLISHED)
		return FLOW_CLOSED;
	if (state < FLOW_CLOSED)
		return FAULT(66, aborted(dir), FLOW_CLOSED);
	return state == aborted(dir ^ 1) ? FLOW_CLOSED : state;
}

/* next_life returns what a flow of which s is a stamp becomes by a packet. */
static __always_inline __u8 next_life(__u8 proto, __u8 flags, struct stamp s)
{
	__u8 dir = dir_of(s), fins = fins_of(s), state = state_of(s);

	if (flags & TCP_RST)
		return life_of(dir, fins, after_reset(dir, state));
	/* Who has really sent a reset says nothing more. */
	if (state == aborted(FAULT(67, dir, dir ^ 1)) && proto == IPPROTO_TCP && !(flags & TCP_SYN))
		state = fins ? FLOW_FIN : FLOW_ESTABLISHED;
	if (!(flags & FAULT(27, TCP_FIN, 0)))
		return life_of(dir, fins, next_state(proto, flags, dir, state));
	fins |= 1 << dir;
	if (fins == (1 << DIR_FORWARD | 1 << DIR_REPLY))
		state = FLOW_CLOSED;
	else if (state < FLOW_CLOSED)
		state = FLOW_FIN;
	return life_of(dir, fins, state);
}

/* set_life gives the entry f, which has this stamp, the life of its twin. */
static __always_inline void set_life(const struct control *c, struct flow *f, struct stamp was,
				     struct stamp twin)
{
	struct stamp *at = stamp_at(f);
	struct stamp is = was;

	is.life = life_of(dir_of(was), fins_of(twin), state_of(twin));
	if (at && swap_stamp(at, was, is))
		f->idle = idle_of(c, f->key.proto, state_of(is));
}

/*
 * advance changes f, the entry at key, and its twin by a packet with these
 * flags. The other side's FIN may come on another CPU at the same moment, so
 * the stamp is swapped, and read again if that fails. Global, as locate is.
 */
__noinline int advance(const struct flow_key *key, struct flow *f, __u8 flags)
{
	struct stamp was, is = {}, *at;
	const struct control *c;
	struct flow *twin;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&control, &zero);
	at = f ? stamp_at(f) : NULL;
	if (!key || !f || !c || !at)
		return 0; /* unreachable */
#pragma clang loop unroll(disable)
	for (int i = 0; i < SWAP_TRIES; i++) {
		was = read_stamp(at);
		is = was;
		is.life = next_life(key->proto, flags, was);
		if (is.life == was.life)
			return 0;
		if (swap_stamp(at, was, is))
			break;
	}
	f->idle = idle_of(c, key->proto, state_of(is));
	twin = find_twin(key, f);
	if (twin && FAULT(28, true, false))
		set_life(c, twin, stamp_of(twin), is);
	return 0;
}
