/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * life.h - how far a flow is: rule 2.6.
 *
 * Only as much of TCP's states as tells how long silence may last, and when a
 * tuple may be used again. The flow's two entries are kept the same.
 */
#pragma once

#include "flow.h"

/* struct word is what a packet says about its flow. */
struct word {
	__u8 proto;
	__u8 flags; /* enum tcp_flag */
	bool proof; /* it acknowledges what the backend has answered */
};

static __always_inline bool is_syn_ack(__u8 flags)
{
	return (flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

/*
 * answers says that the backend has answered with this packet. It may do so with
 * data, as a flow may be made by a packet from its middle.
 */
static __always_inline bool answers(struct word w)
{
	return w.proto == IPPROTO_UDP || w.flags & TCP_ACK;
}

/* tells_number says that the packet of an entry with this stamp is the one to be acknowledged. */
static __always_inline bool tells_number(struct stamp was, __u8 flags)
{
	if (dir_of(was) != DIR_REPLY || eviction_of(was) != EVICT_UNANSWERED)
		return false;
	return is_syn_ack(flags) ||
	       (state_of(was) == FLOW_NEW && (flags & (TCP_ACK | TCP_RST)) == TCP_ACK);
}

/*
 * next_state is the state that follows when RST is not set: from the beginning
 * to an established flow. Whoever forges an address never sees the backend's
 * answer, and so cannot acknowledge it.
 */
static __always_inline __u8 next_state(struct word w, __u8 dir, __u8 state, __u8 fins)
{
	if (dir == DIR_REPLY)
		return state == FLOW_NEW && FAULT(90, answers(w), true) ? FLOW_ANSWERED : state;
	if (state != FLOW_ANSWERED)
		return state;
	if (w.proto == IPPROTO_TCP &&
	    FAULT(65, (w.flags & (TCP_SYN | TCP_ACK)) != TCP_ACK || !w.proof, false))
		return state;
	return fins ? FLOW_FIN : FLOW_ESTABLISHED;
}

/* aborted is the state after a reset in direction dir. */
static __always_inline __u8 aborted(__u8 dir)
{
	return FLOW_ABORTED_FORWARD + dir;
}

#define BOTH_FINS (1 << DIR_FORWARD | 1 << DIR_REPLY)

/* after_reset is the state that follows a reset: it may have been forged, see next_life(). */
static __always_inline __u8 after_reset(__u8 dir, __u8 state)
{
	if (state < FLOW_ESTABLISHED)
		return FLOW_CLOSED;
	if (state < FLOW_CLOSED)
		return FAULT(66, aborted(dir), FLOW_CLOSED);
	return state == aborted(dir ^ 1) ? FLOW_CLOSED : state;
}

/*
 * next_life returns the life that follows life by a packet; proof says that it
 * acknowledges what the backend has answered. Global, as locate is.
 */
__noinline __u32 next_life(__u8 proto, __u8 flags, __u8 proof, __u8 life)
{
	struct word w = {.proto = proto, .flags = flags, .proof = proof};
	struct stamp s = {.life = life};
	__u8 dir = dir_of(s), fins = fins_of(s), state = state_of(s);

	if (flags & TCP_RST)
		return life_of(s, fins, after_reset(dir, state));
	/* Who has really sent a reset says nothing more. */
	if (state == aborted(FAULT(67, dir, dir ^ 1)) && proto == IPPROTO_TCP && !(flags & TCP_SYN))
		state = fins ? FLOW_FIN : FLOW_ESTABLISHED;
	state = next_state(w, dir, state, fins);
	if (!(flags & FAULT(27, TCP_FIN, 0)))
		return life_of(s, fins, state);
	fins |= 1 << dir;
	if (fins == BOTH_FINS)
		state = FLOW_CLOSED;
	else if (state == FLOW_ESTABLISHED)
		state = FLOW_FIN;
	return life_of(s, fins, state);
}

/* with_twin returns the life of an entry of which s is a stamp, when its twin's stamp is t. */
static __always_inline __u8 with_twin(struct stamp s, struct stamp t)
{
	__u8 fins = fins_of(s) | fins_of(t);

	return life_of(s, fins, fins == BOTH_FINS ? FLOW_CLOSED : state_of(t));
}

/*
 * set_life gives the entry f the life of its twin; both are words of stamps, f's
 * as it was when it was found. It is tried again while the stamp changes, since
 * each packet of f changes seen. Global, as locate is.
 */
__noinline int set_life(struct flow *f, __u64 found, __u64 twin)
{
	struct stamp was = *(struct stamp *)&found, is, cur, *at;
	const struct control *c;
	__u32 zero = 0;
	__u64 backend, service;

	c = bpf_map_lookup_elem(&control, &zero);
	at = f ? stamp_at(f) : NULL;
	if (!f || !c || !at)
		return 0; /* unreachable */
	backend = backend_of(f);
	service = service_of(f);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SWAP_TRIES; i++) {
		cur = read_stamp(at);
		if (!same_entry(cur, was))
			return 0;
		is = cur;
		is.life = with_twin(cur, *(struct stamp *)&twin);
		if (FAULT(326, true, false))
			draft_event(f, word_of(cur), word_of(is), false);
		if (!swap_stamp(at, cur, is))
			continue;
		settle(backend, service, word_of(cur), FAULT(228, word_of(is), word_of(cur)));
		f->idle = idle_of(c, f->key.proto, state_of(is));
		return 0;
	}
	return 0;
}

/* struct news is a packet's part in the life of a flow, as advance takes it. */
struct news {
	struct stamp was; /* the entry's when it was found */
	__u32 number; /* what the packet acknowledges, or is to be acknowledged */
	__u8 proto;
	__u8 flags; /* enum tcp_flag */
	__u8 pad[2];
};

/*
 * step swaps f's stamp for that after the packet, and returns its word; 0 if
 * nothing changes. The other side's FIN may come on another CPU at the same
 * moment. Global, as locate is.
 */
__noinline __u64 step(const struct news *n, struct flow *f)
{
	struct stamp was, is, *at = f ? stamp_at(f) : NULL;
	__u64 backend, service;
	bool proof;

	if (!n || !f || !at)
		return 0; /* unreachable */
	backend = backend_of(f);
	service = service_of(f);
	proof = n->number - READ_ONCE(f->answer) <= FAULT(91, 0xffff, -1U);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SWAP_TRIES; i++) {
		was = read_stamp(at);
		if (!same_entry(was, n->was))
			return 0;
		is = was;
		is.life = next_life(n->proto, n->flags, proof, was.life);
		if (is.life == was.life)
			return 0;
		draft_event(f, word_of(was), word_of(is), false);
		if (!swap_stamp(at, was, is))
			continue;
		settle(backend, service, word_of(was), word_of(is));
		return word_of(is);
	}
	return 0;
}

/*
 * advance changes f, the entry at the packet's key, and its twin. It returns what
 * step does.
 */
static __always_inline __u64 advance(const struct packet *p, const struct news *n, struct flow *f)
{
	bool answer = tells_number(n->was, n->flags);
	__u64 is = step(n, f);
	struct stamp ts = {};
	struct flow *twin;

	if (!is && !answer)
		return is;
	twin = find_twin(p->key, f, &ts);
	if (answer)
		f->answer = n->number;
	if (twin && answer)
		twin->answer = n->number;
	if (!is)
		return is;
	f->idle = idle_of(p->control, n->proto, state_of(*(struct stamp *)&is));
	if (twin && FAULT(28, true, false))
		set_life(twin, word_of(ts), is);
	return is;
}
