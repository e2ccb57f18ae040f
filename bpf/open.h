/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* open.h - a packet without a flow: rule 3. */
#pragma once

#include "choose.h"
#include "client.h"
#include "cookie.h"
#include "route.h"

/* find_service returns the service that the packet is for, and its row. */
static __always_inline struct service *find_service(const struct packet *p, __u32 *row)
{
	struct listener l = {
		.addr = p->key->daddr,
		.port = p->key->dport,
		.proto = p->key->proto,
	};
	__u32 *found = bpf_map_lookup_elem(&OWN(listeners), &l);
	struct service *s;

	if (!found)
		return NULL;
	*row = *found;
	s = bpf_map_lookup_elem(&services, row);
	return s && s->state != SERVICE_NONE ? s : NULL;
}

/* is_no_client says that nobody who could be answered has sent this: the second is LAND. */
static __always_inline bool is_no_client(const addr_t *from, const addr_t *to)
{
	return is_bad_source(from) || FAULT(150, same_addr(from, to), false);
}

/* is_there says that a connection of the host's, in this state, may go on. */
static __always_inline bool is_there(__u32 state)
{
	return state && state != BPF_TCP_TIME_WAIT;
}

/* is_standbys says that the standby proxy has the packet's tuple: steps 5 and 6. */
static __noinline bool is_standbys(struct packet *p, const struct service *s)
{
	if (p->key->proto == IPPROTO_UDP)
		return FAULT(44, true, false) && bpf_map_lookup_elem(&OWN(standby), p->key) &&
		       silence(p->control) <= FAULT(54, STANDBY_LEASE, STANDBY_LEASE * 1000000);
	if (s->flags & SERVICE_LOCAL && is_pure_syn(p)) /* others were asked about by stray */
		p->host = env_connection(p->ctx, p->key);
	return FAULT(203, is_there(p->host), false) || FAULT(204, 0, p->host);
}

/* admit is steps 1 to 7: may this packet make a flow of s at all? */
static __always_inline int admit(struct packet *p, const struct service *s, __u32 row)
{
	bool local = s->flags & SERVICE_LOCAL;
	int v;

	if (p->bad)
		return DROP_MALFORMED;
	if (s->state == SERVICE_PROXY)
		return PASS_PROXY;
	if (p->key->proto == IPPROTO_TCP && !is_pure_syn(p)) {
		v = stray(p, s, row);
		if (v != NEXT_STEP)
			return v;
	}
	if (p->mode == FAULT(43, MODE_DRAINING, MODE_OFF) && local)
		return PASS_DRAINING;
	if (is_standbys(p, s))
		return PASS_STANDBY;
	if (is_no_client(&p->key->saddr, &p->key->daddr))
		return DROP_SOURCE;
	return may_enter(p, s, row);
}

/* open_flow makes a flow for the packet, if it is for a service, and forwards it. */
static __noinline int open_flow(struct packet *p)
{
	struct draft *d = draft();
	struct service *s;
	enum way way;
	__u32 row;
	int v;

	s = find_service(p, &row);
	if (!s || !d)
		return PASS_OTHER;
	if (dry_run)
		note_service(s, row);
	v = admit(p, s, row);
	if (v != NEXT_STEP)
		return v;
	way = way_back(p, &d->back);
	if (way == WAY_NOT_FORWARDED)
		return DROP_SOURCE;
	if (way != WAY_FOUND)
		return DROP_NO_ROUTE;
	if (p->ttl <= FAULT(202, 1, 0))
		return answer_late(p);
	if (s->flags & SERVICE_COOKIES) {
		v = shield(p, s, row, d);
		if (v != NEXT_STEP)
			return v;
	}
	return choose(p, s, row, d);
}
