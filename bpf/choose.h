/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * choose.h - which backend gets a new flow: rule 3, steps 9 to 11.
 *
 * A flow's two keys are reserved one after the other by insertions that fail
 * when somebody is there, never by overwriting: who comes second gives way.
 */
#pragma once

#include "entry.h"
#include "forward.h"
#include "reset.h"
#include "route.h"
#include "unreachable.h"

#define TRIES 4

/* answer_no_backend tells a client that would make a flow that there is nobody to serve it. */
static __always_inline int answer_no_backend(const struct packet *p)
{
	int v;

	if (p->key.proto == IPPROTO_UDP)
		return answer_unreachable(p);
	v = answer_reset(p);
	return v == DROP_REPLY_LIMIT ? DROP_NO_BACKEND : v;
}

/* next_backend takes a turn: NULL if it falls on a backend that cannot serve. */
static __always_inline struct backend *next_backend(struct flow *e, __u64 run, bool all_up)
{
	__u32 service = e->service;
	__u64 *turn = bpf_map_lookup_elem(&turns, &service);
	__u32 length = run;
	struct backend *b;
	__u32 *row, slot;

	if (!turn)
		return NULL;
	slot = (run >> 32) + __sync_fetch_and_add(turn, 1) % (length + FAULT(45, 0, 1));
	row = bpf_map_lookup_elem(&slots, &slot);
	if (!row)
		return NULL;
	e->backend = *row;
	b = bpf_map_lookup_elem(&backends, &e->backend);
	if (!b || b->service != service || b->state == BACKEND_NONE)
		return NULL;
	if (b->state == BACKEND_DOWN && !all_up)
		return NULL;
	e->backend_gen = b->gen;
	return b;
}

/* winner returns the entry at the packet's key, if another CPU has made it meanwhile. */
static __always_inline struct flow *winner(struct packet *p)
{
	struct flow *f = find(&p->key);

	if (!f)
		return NULL;
	p->stamp = stamp_of(f);
	return counts(&p->when, f, p->stamp) ? f : NULL;
}

/* follow_winner is for who was second in making the same flow. */
static __noinline int follow_winner(struct packet *p)
{
	struct flow *f = winner(p);

	if (!f)
		return DROP_TABLE_FULL;
	if (FAULT(47, false, true))
		count_flow(f);
	return forward(p, f, stamp_at(f));
}

/* clear_twin is step 10.2: NEXT_STEP when the key that e's twin needs is free. */
static __always_inline int clear_twin(struct packet *p, const struct flow *e)
{
	struct flow_key at = twin_key(e, p->key.proto);
	struct flow *twin = find(&at);
	struct stamp stamp;

	if (!twin)
		return NEXT_STEP;
	stamp = stamp_of(twin);
	if (FAULT(46, is_live(&p->when, twin, stamp), false)) {
		if (!names(twin, &p->key))
			return DROP_TUPLE_TAKEN;
		if (winner(p))
			return follow_winner(p);
	}
	delete_pair(p, &at, twin, stamp);
	return NEXT_STEP;
}

/* make_flow is steps 10.4 to 10.6. DROP_TUPLE_TAKEN is not the end: another try may do. */
static __always_inline int make_flow(struct packet *p, const struct draft *d)
{
	struct stamp stamp = {
		.seen = p->when.now,
		.era = p->when.era,
		.life = life_of(DIR_FORWARD, 0, FLOW_NEW),
	};
	const struct flow *e = &d->forward;
	int err = insert(p, e, stamp);
	struct flow *f;

	if (err)
		return err == -EEXIST ? follow_winner(p) : DROP_TABLE_FULL;
	p->stamp = stamp;
	err = make_twin(p, e, stamp, &d->back);
	if (err) {
		f = find(&p->key);
		if (f)
			delete_entry(f, stamp_of(f));
		return err == -EEXIST ? DROP_TUPLE_TAKEN : DROP_TABLE_FULL;
	}
	count_flow(e);
	return forward(p, e, NULL);
}

/* try_backend is one try of step 10, with the backend that the run of slots offers next. */
static __noinline int try_backend(struct packet *p, struct draft *d, __u64 run, bool all_up)
{
	struct flow *e = &d->forward;
	struct backend *b = next_backend(e, run, all_up);
	struct flow_key to = {.saddr = p->key.saddr, .sport = p->key.sport};
	enum way way;
	int v;

	if (!b)
		return DROP_NO_BACKEND;
	to.daddr = b->addr;
	to.dport = b->port ? FAULT(48, b->port, bpf_htons(b->port)) : p->key.dport;
	set_leaving(e, &p->key, &to);
	v = clear_twin(p, e);
	if (v != NEXT_STEP)
		return v;
	way = find_way(p, to.saddr, to.daddr, &e->hop);
	if (way == WAY_NO_NEIGHBOUR)
		return DROP_NO_NEIGHBOUR;
	if (way == WAY_NO_DEVICE)
		return DROP_DEVICE;
	if (way != WAY_FOUND)
		return DROP_NO_ROUTE;
	return make_flow(p, d);
}

/* may_try_again says that a try's failure is not the packet's fate. */
static __always_inline bool may_try_again(int v)
{
	return v == DROP_NO_BACKEND || v == DROP_TUPLE_TAKEN || v == DROP_NO_NEIGHBOUR ||
	       v == DROP_NO_ROUTE || v == DROP_DEVICE;
}

/* delete_stale deletes what is left at the packet's key of a flow that does not count. */
static __always_inline void delete_stale(const struct packet *p)
{
	struct flow *f = find(&p->key);
	struct stamp stamp;

	if (!f)
		return;
	stamp = stamp_of(f);
	if (!counts(&p->when, f, stamp))
		delete_pair(p, &p->key, f, stamp);
}

/* begin is what all tries of step 10 have in common. */
static __always_inline void begin(const struct packet *p, struct flow *e, const struct service *s,
				  __u32 row)
{
	__builtin_memset(e, 0, sizeof(*e));
	e->key = p->key;
	e->checked = p->when.now;
	e->epoch = p->when.epoch;
	e->idle = idle_of(p->control, p->key.proto, FLOW_NEW);
	e->service = row;
	e->service_gen = s->gen;
}

/* choose is steps 9 to 11. */
static __always_inline int choose(struct packet *p, const struct service *s, __u32 row,
				  struct draft *d)
{
	bool all_up = all_count_as_up(p->control);
	__u64 run = all_up ? READ_ONCE(s->slots_all) : READ_ONCE(s->slots);
	int v = DROP_NO_BACKEND;

	if (!(__u32)run)
		return answer_no_backend(p);
	delete_stale(p);
	begin(p, &d->forward, s, row);
	for (int i = 0; i < TRIES; i++) {
		v = try_backend(p, d, run, all_up);
		if (!may_try_again(v))
			break;
	}
	return v == DROP_NO_BACKEND ? answer_no_backend(p) : v;
}
