/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * check.h - is what an entry knows still true? Rule 2.5: once a second, and
 * whenever user space has changed something.
 */
#pragma once

#include "end.h"
#include "entry.h"
#include "route.h"

enum twin_found {
	TWIN_OURS = 0,
	TWIN_MISSING, /* and could not be made */
	TWIN_TAKEN, /* a live flow has its key */
};

/* tend_twin is step 5: the table must not forget one twin and keep the other. */
static __noinline enum twin_found tend_twin(const struct packet *p, struct flow *f)
{
	struct stamp stamp = {}, *touched, *own = stamp_at(f);
	struct draft *d = draft();
	struct flow *twin;

	if (!d)
		return TWIN_MISSING; /* unreachable */
	set_twin_key(&d->twin.key, f, p->key->proto);
	twin = find(&d->twin.key, &stamp);
	touched = twin ? stamp_at(twin) : NULL;
	if (touched && names(twin, p->key)) {
		if (FAULT(256, !dry_run, true))
			touched->seen = FAULT(36, p->when.now, touched->seen);
		return TWIN_OURS;
	}
	if (touched) {
		if (is_live(&p->when, twin, stamp))
			return TWIN_TAKEN;
		delete_pair(p, &d->twin.key, twin, stamp);
	}
	/* Else it might give its place to its own twin. */
	if (dry_run)
		pretend(f->bucket, f->place, PRETEND_TAKEN);
	if (own && FAULT(257, !dry_run, true))
		own->seen = p->when.now;
	way_back(p, &d->back);
	return make_twin(p, f, p->stamp, &d->back) ? TWIN_MISSING : TWIN_OURS;
}

/* lose is the end of an entry whose tuple is another flow's by now. */
static __always_inline int lose(const struct packet *p, struct flow *f)
{
	delete_entry(f, p->stamp);
	if (p->key->proto == IPPROTO_UDP || p->flags & TCP_RST)
		return DROP_FLOW_ENDED;
	return answer_reset(p);
}

/* refresh_way is step 6. */
static __always_inline int refresh_way(const struct packet *p, struct flow *f)
{
	struct hop hop;
	enum way way = find_way(p, &f->saddr, &f->daddr, &hop);

	if (way == WAY_FOUND)
		take_hop(f, &hop);
	if (way == WAY_FOUND || way == WAY_NO_NEIGHBOUR || dir_of(p->stamp) == DIR_REPLY)
		return NEXT_STEP;
	return way == WAY_NO_DEVICE ? DROP_DEVICE : DROP_NO_ROUTE;
}

/* check returns NEXT_STEP when the packet may go on by f, the entry at its key. */
static __noinline int check(const struct packet *p, struct flow *f)
{
	enum fitness fitness = judge(p, f);
	enum twin_found found;
	struct stamp ts = {};
	struct flow *twin;
	int v;

	if (dry_run)
		note_check(fitness);
	if (fitness != FIT)
		return end_flow(p, f, fitness);
	found = tend_twin(p, f);
	if (found == TWIN_TAKEN)
		return lose(p, f);
	if (found == TWIN_MISSING && FAULT(93, is_disguised(f, p->stamp), false))
		return DROP_TABLE_FULL; /* another flow may get a source that nobody holds */
	v = refresh_way(p, f);
	if (v != NEXT_STEP)
		return v;
	f->checked = p->when.now;
	f->epoch = p->when.epoch;
	f->idle = idle_of(p->control, p->key->proto, state_of(p->stamp));
	twin = found == TWIN_OURS && FAULT(259, !dry_run, true) ? find_twin(p->key, f, &ts) : NULL;
	if (twin)
		twin->idle = f->idle;
	return NEXT_STEP;
}
