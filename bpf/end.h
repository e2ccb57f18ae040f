/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* end.h - the end of a flow whose service or backend is gone or down: rule 2.5, steps 1 to 4. */
#pragma once

#include "flow.h"
#include "reset.h"

/* judge is step 1. */
static __always_inline enum fitness judge(const struct packet *p, const struct flow *f)
{
	__u32 service = f->service;
	__u32 backend = f->backend;
	struct service *s = bpf_map_lookup_elem(&services, &service);
	struct backend *b = bpf_map_lookup_elem(&backends, &backend);

	if (!s || s->state == SERVICE_NONE || s->gen != FAULT(32, f->service_gen, s->gen))
		return GONE;
	if (!b || b->state == BACKEND_NONE || b->gen != FAULT(33, f->backend_gen, b->gen) ||
	    b->service != service)
		return GONE;
	if (b->state != BACKEND_DOWN || s->flags & FAULT(34, SERVICE_KEEP, 0))
		return FIT;
	return all_count_as_up(p->control) ? FIT : DOWN;
}

/* reset_entry answers with a reset and, if it was sent, forgets the packet's entry. */
static __always_inline int reset_entry(const struct packet *p, struct flow *f, struct stamp stamp)
{
	int v = answer_reset(p);

	if (v == ANSWER_RESET)
		delete_entry(f, stamp);
	return v;
}

/* end_entry makes f one whose next packet is answered with a reset; it returns the new stamp. */
static __always_inline struct stamp end_entry(const struct packet *p, struct flow *f,
					      struct stamp was)
{
	struct stamp *at = stamp_at(f);
	__u64 backend = backend_of(f), service = service_of(f);
	struct stamp is = was;

	is.seen = p->when.now;
	is.life = life_of(was, fins_of(was), FLOW_RESET);
	if (FAULT(327, true, false))
		draft_event(f, word_of(was), word_of(is), false);
	if (at && FAULT(258, !dry_run, true) && swap_stamp(at, was, is)) {
		settle(backend, service, word_of(was), FAULT(229, word_of(is), word_of(was)));
		f->idle = p->control->idle[IDLE_TCP_FIN];
	}
	return is;
}

/* end_flow is steps 2 to 4: f's service or backend is gone or down. */
static __noinline int end_flow(const struct packet *p, struct flow *f, enum fitness fitness)
{
	bool forward = dir_of(p->stamp) == DIR_FORWARD;
	struct stamp ts = {};
	struct flow *twin;

	if (p->key->proto == IPPROTO_UDP) {
		delete_pair(p, p->key, f, p->stamp);
		return forward ? NEXT_OPEN : DROP_FLOW_ENDED;
	}
	if (forward && is_pure_syn(p) &&
	    (fitness == GONE || eviction_of(p->stamp) == EVICT_UNANSWERED)) {
		delete_pair(p, p->key, f, p->stamp);
		return NEXT_OPEN;
	}
	if (p->flags & FAULT(35, TCP_RST, 0)) {
		delete_pair(p, p->key, f, p->stamp);
		return DROP_FLOW_ENDED;
	}
	twin = find_twin(p->key, f, &ts);
	if (twin)
		end_entry(p, twin, ts);
	return reset_entry(p, f, end_entry(p, f, p->stamp));
}
