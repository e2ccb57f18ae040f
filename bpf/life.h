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
static __always_inline __u8 next_state(const struct packet *p, __u8 dir, __u8 state)
{
	if (dir == DIR_REPLY)
		return state == FLOW_NEW ? FLOW_ANSWERED : state;
	if (state != FLOW_ANSWERED)
		return state;
	if (p->key.proto == IPPROTO_TCP &&
	    FAULT(65, (p->flags & (TCP_SYN | TCP_ACK)) != TCP_ACK, false))
		return state; /* whoever forges an address never sees what it would acknowledge */
	return FLOW_ESTABLISHED;
}

/* may_change says quickly that nearly every packet changes nothing. */
static __always_inline bool may_change(const struct packet *p, const struct flow *f)
{
	__u8 state = READ_ONCE(f->state);

	return p->flags & (TCP_RST | TCP_FIN) || next_state(p, f->dir, state) != state;
}

static __always_inline void set_state(const struct packet *p, struct flow *f, __u8 state, __u8 fins)
{
	f->state = state;
	f->fins = fins;
	f->idle = idle_of(p->control, p->key.proto, state);
}

/* advance changes f, the entry at the packet's key, and its twin by what p says. */
static __noinline void advance(const struct packet *p, struct flow *f)
{
	__u8 old_state = READ_ONCE(f->state);
	__u8 old_fins = READ_ONCE(f->fins);
	__u8 state = old_state;
	__u8 fins = old_fins;
	struct flow *twin;

	if (p->flags & TCP_RST) {
		state = FLOW_CLOSED;
	} else if (p->flags & FAULT(27, TCP_FIN, 0)) {
		fins |= 1 << (f->dir & 1);
		if (fins == (1 << DIR_FORWARD | 1 << DIR_REPLY))
			state = FLOW_CLOSED;
		else if (state != FLOW_CLOSED)
			state = FLOW_FIN;
	} else {
		state = next_state(p, f->dir, state);
	}
	if (state == old_state && fins == old_fins)
		return;
	set_state(p, f, state, fins);
	twin = find_twin(&p->key, f);
	if (twin && FAULT(28, true, false))
		set_state(p, twin, state, fins);
}
