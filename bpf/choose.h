/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * choose.h - which backend gets a new flow: rule 3, steps 9 to 11.
 *
 * A flow's two keys are reserved one after the other by insertions that fail
 * when somebody is there, never by overwriting: who comes second gives way.
 */
#pragma once

#include "affinity.h"
#include "entry.h"
#include "forward.h"
#include "reset.h"
#include "route.h"
#include "zone.h"

/* Where a client's other ports are looked for, if its own is taken, and how often. */
#define PORT_FIRST 1024
#define PORT_STEP 7919
#define PORT_TRIES 8
#define SOURCE_TRIES 16

/* answer_no_backend tells a client that would make a flow that there is nobody to serve it. */
static __always_inline int answer_no_backend(const struct packet *p)
{
	int v;

	if (p->key->proto == IPPROTO_UDP)
		return answer_icmp(p, ICMP_UNREACHABLE, ICMP_PORT_UNREACHABLE, 0)
			       ? ANSWER_UNREACHABLE
			       : DROP_NO_BACKEND;
	v = answer_reset(p);
	return v == DROP_REPLY_LIMIT ? DROP_NO_BACKEND : v;
}

/* next_backend returns the backend that the next try takes: NULL if it cannot serve. */
static __always_inline struct backend *next_backend(const struct packet *p, struct draft *d)
{
	__u32 row = NO_BACKEND;
	struct backend *b;

	if (d->affinity && !d->tries)
		row = tied_row(&p->when, p->key, d);
	if (row == NO_BACKEND)
		row = next_row(d);
	b = bpf_map_lookup_elem(&backends, &row);
	if (!b || !can_serve(b, d->forward.service, d->all_up))
		return NULL;
	d->forward.backend = row;
	d->forward.backend_gen = b->gen;
	return b;
}

/* winner returns the entry at key, with its stamp, if another CPU has made it meanwhile. */
static __always_inline struct flow *winner(const struct moment *m, const struct flow_key *key,
					   struct stamp *was)
{
	struct flow *f = find(key, was);

	return f && counts(m, f, *was) ? f : NULL;
}

/* follow_winner is for who was second in making the same flow. */
static __noinline int follow_winner(struct packet *p)
{
	struct flow *f = winner(&p->when, p->key, &p->stamp);

	if (!f || !is_live(&p->when, f, p->stamp))
		return DROP_TABLE_FULL;
	if (FAULT(47, false, true))
		count_flow(f);
	return forward(p, f, stamp_at(f));
}

/* other_port is the k-th port that the client of a tuple that is taken may get. */
static __always_inline __be16 other_port(__be16 port, __u32 k)
{
	return bpf_htons(PORT_FIRST + (bpf_ntohs(port) + k * PORT_STEP) % (65536 - PORT_FIRST));
}

/*
 * change_port gives the client of key another port towards the backend of d:
 * NEXT_STEP, or DROP_TUPLE_TAKEN. Global, as locate is.
 */
__noinline int change_port(const struct moment *m, const struct flow_key *key, struct draft *d)
{
	struct flow_key *at;
	struct stamp stamp = {};
	struct flow *twin;

	if (!m || !key || !d)
		return DROP_TUPLE_TAKEN; /* unreachable */
	at = &d->twin.key;
	reverse(at, &d->to);
#pragma clang loop unroll(disable)
	for (__u32 k = 1; k <= PORT_TRIES; k++) {
		at->dport = d->to.sport = other_port(key->sport, k);
		twin = find(at, &stamp);
		if (twin) {
			if (FAULT(84, is_live(m, twin, stamp), false))
				continue;
			delete_both(m, at, twin, word_of(stamp));
		}
		set_leaving(&d->forward, key, &d->to);
		return NEXT_STEP;
	}
	return DROP_TUPLE_TAKEN;
}

/*
 * draw_source sets the k-th source that the client of a key with this hash may
 * have towards a backend. Each client steps by a width of its own, so that none
 * meets a row of others.
 */
static __noinline bool draw_source(const struct control *c, __u64 hash, struct draft *d,
				   __u32 sources, __u32 k)
{
	__u32 y = (__u32)hash + k * (hash >> 32 | 1);
	__u32 n = sources & 0xffff, at, ports;
	struct address *addr;
	__u16 first;

	if (!n)
		return false;
	at = (sources >> 16) + y % n;
	addr = bpf_map_lookup_elem(&snat, &at);
	if (!addr)
		return false;
	d->to.saddr = own_addr(addr);
	ports = source_ports(c, &d->to.saddr, &first);
	if (!ports || !FAULT(185, same_kind(&d->to.saddr, &d->to.daddr), true))
		return false;
	d->to.sport = bpf_htons(first + y / n % ports);
	return true;
}

/*
 * choose_source gives the client of key a source of our own towards the backend
 * of d: NEXT_STEP, NEXT_WINNER if another CPU has just made this flow, or
 * DROP_TUPLE_TAKEN. Global, as locate is.
 */
__noinline int choose_source(const struct moment *m, const struct flow_key *key, struct draft *d,
			     __u32 sources)
{
	const struct control *c;
	struct stamp stamp = {};
	struct flow *twin;
	__u32 zero = 0;
	__u64 hash;

	c = bpf_map_lookup_elem(&control, &zero);
	if (!m || !key || !d || !c)
		return DROP_TUPLE_TAKEN; /* unreachable */
	hash = hash_of(c, sum_key(c, key));
#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < 2 * SOURCE_TRIES; k++) {
		if (!draw_source(c, hash, d, sources, k % SOURCE_TRIES))
			return DROP_TUPLE_TAKEN;
		reverse(&d->twin.key, &d->to);
		twin = find(&d->twin.key, &stamp);
		if (twin) {
			if (FAULT(87, is_live(m, twin, stamp), false)) {
				if (!names(twin, key))
					continue;
				if (winner(m, key, &stamp))
					return NEXT_WINNER;
			} else if (k < SOURCE_TRIES && FAULT(95, counts(m, twin, stamp), false)) {
				continue; /* the backend may still be in TIME_WAIT */
			}
			delete_entry(twin, stamp);
		}
		set_leaving(&d->forward, key, &d->to);
		return NEXT_STEP;
	}
	return DROP_TUPLE_TAKEN;
}

/* clear_twin is step 10.2: NEXT_STEP when the key that e's twin needs is free. */
static __always_inline int clear_twin(struct packet *p, struct draft *d)
{
	struct flow_key *at = &d->twin.key;
	struct flow *twin;
	struct stamp stamp = {};

	set_leaving(&d->forward, p->key, &d->to);
	reverse(at, &d->to);
	twin = find(at, &stamp);
	if (!twin)
		return NEXT_STEP;
	if (FAULT(46, is_live(&p->when, twin, stamp), false)) {
		if (!names(twin, p->key))
			return FAULT(85, change_port(&p->when, p->key, d), DROP_TUPLE_TAKEN);
		if (winner(&p->when, p->key, &stamp))
			return NEXT_WINNER;
	}
	delete_pair(p, at, twin, stamp);
	return NEXT_STEP;
}

/* make_flow is steps 10.4 to 10.6. DROP_TUPLE_TAKEN is not the end: another try may do. */
static __always_inline int make_flow(struct packet *p, struct draft *d)
{
	struct stamp stamp = {
		.seen = p->when.now,
		.era = p->when.era,
		.life = p->key->proto == IPPROTO_UDP ? LIFE_UDP : 0, /* forward, no FIN, FLOW_NEW */
	};
	struct flow *e = &d->forward;
	struct flow *f;
	int err;

	if (p->flags & FAULT(245, TCP_FIN, 0))
		stamp.life = life_of(stamp, 1 << DIR_FORWARD, FLOW_NEW);
	err = insert(p, e, stamp);
	if (err)
		return err == -EEXIST ? follow_winner(p) : DROP_TABLE_FULL;
	p->stamp = stamp;
	err = make_twin(p, e, stamp, &d->back);
	if (err) {
		f = find(p->key, &stamp);
		if (f)
			delete_entry(f, stamp);
		return err == -EEXIST ? DROP_TUPLE_TAKEN : DROP_TABLE_FULL;
	}
	count_flow(e);
	if (d->affinity)
		tie(&p->when, p->key, d);
	return forward(p, e, NULL);
}

/* try_backend is one try of step 10. */
static __noinline int try_backend(struct packet *p, struct draft *d)
{
	struct flow *e = &d->forward;
	struct backend *b = next_backend(p, d);
	enum way way;
	int v;

	if (!b)
		return DROP_NO_BACKEND;
	d->to = *p->key;
	d->to.daddr = own_addr(&b->addr);
	d->to.dport = b->port ? FAULT(48, b->port, bpf_htons(b->port)) : p->key->dport;
	if (d->flags & SERVICE_FULL_NAT ||
	    !FAULT(186, same_kind(&d->to.daddr, &p->key->daddr), true))
		v = choose_source(&p->when, p->key, d, b->sources);
	else
		v = clear_twin(p, d);
	if (v == NEXT_WINNER)
		return follow_winner(p);
	if (v != NEXT_STEP)
		return v;
	way = find_way(p, &d->to.saddr, &d->to.daddr, &e->hop);
	if (way == WAY_NO_NEIGHBOUR)
		return DROP_NO_NEIGHBOUR;
	if (way == WAY_NO_DEVICE)
		return DROP_DEVICE;
	if (way != WAY_FOUND)
		return DROP_NO_ROUTE;
	take_hop(e, &e->hop);
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
	struct stamp stamp = {};
	struct flow *f = find(p->key, &stamp);

	if (f && !counts(&p->when, f, stamp))
		delete_pair(p, p->key, f, stamp);
}

/* begin is what all tries of step 10 have in common. */
static __always_inline void begin(const struct packet *p, struct draft *d, const struct service *s,
				  __u32 row)
{
	struct flow *e = &d->forward;

	__builtin_memset(e, 0, sizeof(*e));
	e->key = *p->key;
	e->checked = p->when.now;
	e->epoch = p->when.epoch;
	e->idle = idle_of(p->control, p->key->proto, FLOW_NEW);
	e->service = row;
	e->service_gen = s->gen;
	d->flags = s->flags;
	d->affinity = s->affinity;
	d->tries = 0;
	if (is_hashed(s))
		d->hash = hash_client(p->key, s);
}

/* choose is steps 9 to 11. */
static __always_inline int choose(struct packet *p, const struct service *s, __u32 row,
				  struct draft *d)
{
	int v = DROP_NO_BACKEND;

	d->all_up = all_count_as_up(p->control);
	d->run = d->all_up ? READ_ONCE(s->slots_all) : READ_ONCE(s->slots);
	d->turns = row;
	if (FAULT(300, s->zones, 0))
		enter_zone(p->key, s->zones, d);
	if (!(__u32)d->run)
		return answer_no_backend(p);
	delete_stale(p);
	begin(p, d, s, row);
	if (dry_run)
		note_choice(d->run, d->all_up);
	for (int i = 0; i < MAX_TRIES; i++) {
		v = try_backend(p, d);
		if (dry_run)
			note_attempt(d->tried[i], v);
		if (!may_try_again(v))
			break;
	}
	return v == DROP_NO_BACKEND ? answer_no_backend(p) : v;
}
