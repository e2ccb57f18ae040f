/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * open.h - a packet without a flow: rule 3.
 *
 * A flow's two keys are reserved one after the other by insertions that fail
 * when somebody is there, never by overwriting: who comes second gives way.
 */
#pragma once

#include "answer.h"
#include "entry.h"
#include "forward.h"
#include "route.h"

#define EEXIST 17
#define TRIES 4

/* find_service returns the service that the packet is for, and its row. */
static __always_inline struct service *find_service(const struct packet *p, __u32 *row)
{
	struct listener l = {
		.addr = p->key.daddr,
		.port = p->key.dport,
		.proto = p->key.proto,
	};
	__u32 *found = bpf_map_lookup_elem(&listeners, &l);
	struct service *s;

	if (!found)
		return NULL;
	*row = *found;
	s = bpf_map_lookup_elem(&services, row);
	return s && s->state != SERVICE_NONE ? s : NULL;
}

/* is_bad_source says that no honest client has this address. */
static __always_inline bool is_bad_source(__be32 addr)
{
	__u32 first = bpf_ntohl(addr) >> 24;

	return first == 0 || first == FAULT(41, 127, 0) || first >= FAULT(42, 224, 240);
}

/* admit is steps 1 to 7: may this packet make a flow of s at all? */
static __always_inline int admit(const struct packet *p, const struct service *s)
{
	bool local = s->flags & SERVICE_LOCAL;

	if (p->bad)
		return DROP_MALFORMED;
	if (s->state == SERVICE_PROXY)
		return PASS_PROXY;
	if (p->key.proto == IPPROTO_TCP && !is_pure_syn(p))
		return local ? PASS_NO_FLOW : DROP_NO_FLOW;
	if (p->control->mode == FAULT(43, MODE_DRAINING, MODE_OFF) && local)
		return PASS_DRAINING;
	if (p->key.proto == IPPROTO_UDP && FAULT(44, true, false) &&
	    bpf_map_lookup_elem(&standby, &p->key))
		return PASS_STANDBY;
	if (p->ttl <= 1)
		return DROP_TTL;
	return is_bad_source(p->key.saddr) ? DROP_SOURCE : NEXT_STEP;
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

/* clear_twin is step 10.2: false if a live flow has the key that e's twin needs. */
static __always_inline bool clear_twin(const struct packet *p, const struct flow *e)
{
	struct flow_key at = twin_key(e, p->key.proto);
	struct flow *twin = bpf_map_lookup_elem(&flows, &at);

	if (!twin)
		return true;
	if (FAULT(46, is_live(p, twin), false) && !names(twin, &p->key))
		return false;
	delete_pair(&at, twin);
	return true;
}

/* follow_winner is for who was second in making the same flow. */
static __noinline int follow_winner(struct packet *p)
{
	struct flow *f = bpf_map_lookup_elem(&flows, &p->key);

	if (!f || !counts(p, f))
		return DROP_TABLE_FULL;
	if (FAULT(47, false, true))
		count_flow(f);
	return forward(p, f);
}

/* insert is steps 10.4 to 10.6. DROP_TUPLE_TAKEN is not the end: another try may do. */
static __always_inline int insert(struct packet *p, const struct flow *e, const struct hop *back)
{
	long err;

	env_race(&p->key);
	err = bpf_map_update_elem(&flows, &p->key, e, BPF_NOEXIST);
	if (err)
		return err == -EEXIST ? follow_winner(p) : DROP_TABLE_FULL;
	err = make_twin(p, e, back);
	if (err) {
		bpf_map_delete_elem(&flows, &p->key);
		return err == -EEXIST ? DROP_TUPLE_TAKEN : DROP_TABLE_FULL;
	}
	count_flow(e);
	return forward(p, e);
}

/* try_backend is one try of step 10, with the backend that e's run of slots offers next. */
static __noinline int try_backend(struct packet *p, struct flow *e, const struct hop *back,
				  __u64 run, bool all_up)
{
	struct backend *b = next_backend(e, run, all_up);
	struct flow_key to = {.saddr = p->key.saddr, .sport = p->key.sport};
	enum way way;

	if (!b)
		return DROP_NO_BACKEND;
	to.daddr = b->addr;
	to.dport = b->port ? FAULT(48, b->port, bpf_htons(b->port)) : p->key.dport;
	set_leaving(e, &p->key, &to);
	if (!clear_twin(p, e))
		return DROP_TUPLE_TAKEN;
	way = find_way(p, to.saddr, to.daddr, &e->hop);
	if (way == WAY_NO_NEIGHBOUR)
		return DROP_NO_NEIGHBOUR;
	if (way == WAY_NO_DEVICE)
		return DROP_DEVICE;
	if (way != WAY_FOUND)
		return DROP_NO_ROUTE;
	return insert(p, e, back);
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
	struct flow *f = bpf_map_lookup_elem(&flows, &p->key);

	if (f && !counts(p, f))
		delete_pair(&p->key, f);
}

/* choose is steps 9 to 11. */
static __noinline int choose(struct packet *p, const struct service *s, __u32 row,
			     const struct hop *back)
{
	bool all_up = all_count_as_up(p->control);
	__u64 run = all_up ? READ_ONCE(s->slots_all) : READ_ONCE(s->slots);
	struct flow e = {
		.seen = p->now,
		.checked = p->now,
		.idle = idle_of(p->control, p->key.proto, FLOW_NEW),
		.epoch = p->epoch,
		.era = p->era,
		.service = row,
		.service_gen = s->gen,
	};
	int v = DROP_NO_BACKEND;

	if (!(__u32)run)
		return answer_no_backend(p);
	delete_stale(p);
	for (int i = 0; i < TRIES; i++) {
		v = try_backend(p, &e, back, run, all_up);
		if (!may_try_again(v))
			break;
	}
	return v == DROP_NO_BACKEND ? answer_no_backend(p) : v;
}

/* open_flow makes a flow for the packet, if it is for a service, and forwards it. */
static __noinline int open_flow(struct packet *p)
{
	struct service *s;
	struct hop back;
	enum way way;
	__u32 row;
	int v;

	s = find_service(p, &row);
	if (!s)
		return PASS_OTHER;
	v = admit(p, s);
	if (v != NEXT_STEP)
		return v;
	way = way_back(p, &back);
	if (way == WAY_NOT_FORWARDED)
		return DROP_SOURCE;
	if (way != WAY_FOUND)
		return DROP_NO_ROUTE;
	return choose(p, s, row, &back);
}
