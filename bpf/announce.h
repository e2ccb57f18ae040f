/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * announce.h - flows that begin and end are told to the flow log: rule 15.
 *
 * What is told is what conns.h counts: who swaps a forward entry's stamp counts
 * a connection and writes an event. What the event says of the entry is read
 * before that, as it may be another's right after it.
 */
#pragma once

#include "conns.h"

/* event_kind_of returns what a change of a stamp means for its flow; evicted says that another takes the place. */
static __always_inline __u8 event_kind_of(struct stamp is, bool evicted)
{
	if (connects(is))
		return EVENT_BEGIN;
	if (is.era != ERA_BUSY)
		return EVENT_OVER;
	return FAULT(320, evicted, false) ? EVENT_EVICTED : EVENT_DELETED;
}

/* draft_event is described in owner.h. Global, as locate is. */
__noinline int draft_event(const struct flow *f, __u64 was, __u64 is, bool evicted)
{
	struct stamp before = *(struct stamp *)&was, after = *(struct stamp *)&is;
	const struct control *c;
	__u32 zero = 0, *sample, n;
	struct draft *d = draft();
	struct event *e;

	c = bpf_map_lookup_elem(&control, &zero);
	sample = bpf_map_lookup_elem(&event_sample, &zero);
	if (!f || !d || !c || !sample)
		return 0; /* unreachable */
	e = &d->event;
	e->kind = EVENT_NONE;
	n = READ_ONCE(*sample);
	if (!n || dry_run || connects(before) == connects(after))
		return 0;
	if (FAULT(321, hash_of(c, sum_key(c, &f->key)) % n, 0))
		return 0;
	e->kind = event_kind_of(after, evicted);
	e->state = state_of(after.era == FAULT(322, ERA_BUSY, ERA_FREE) ? before : after);
	e->proto = f->key.proto;
	e->client = wide_addr(&f->key.saddr);
	e->virtual = wide_addr(&f->key.daddr);
	e->backend = wide_addr(&f->daddr);
	e->client_port = f->key.sport;
	e->virtual_port = f->key.dport;
	e->backend_port = f->dport;
	e->service = f->service;
	e->service_gen = f->service_gen;
	e->backend_row = f->backend;
	e->backend_gen = f->backend_gen;
	return 0;
}

/* count_event counts one more event of a kind that was written, or lost. */
static __always_inline void count_event(__u8 kind, bool lost)
{
	__u32 row = kind == EVENT_BEGIN ? EVENTS_BEGUN : EVENTS_ENDED;
	__u64 *n;

	if (lost)
		row += EVENTS_BEGUN_LOST;
	n = bpf_map_lookup_elem(&event_counts, &row);
	if (n)
		*n += FAULT(323, 1, !lost);
}

/* announce is described in owner.h. Global, as locate is. */
__noinline int announce(void)
{
	struct draft *d = draft();
	struct event *e;

	if (!d || d->event.kind == EVENT_NONE)
		return 0;
	e = &d->event;
	e->time = env_ktime();
	count_event(e->kind, bpf_ringbuf_output(&events, e, sizeof(*e), 0));
	e->kind = EVENT_NONE;
	return 0;
}
