/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * flow.h - entries of the flow table, which come in pairs.
 *
 * A flow has an entry for each direction, its twins. Nothing ties them but
 * their tuples: packets that leave by one entry come back, turned round, to
 * the key of the other. The table evicts entries one by one, so a twin may be
 * missing, or its key may belong to another flow by now.
 */
#pragma once

#include "table.h"

/* reverse makes of to the tuple of what comes back to k. They are not one. */
static __always_inline void reverse(struct flow_key *to, const struct flow_key *k)
{
	to->saddr = k->daddr;
	to->daddr = k->saddr;
	to->sport = k->dport;
	to->dport = k->sport;
	write_proto(to, k->proto);
}

/* set_twin_key makes of to where the twin of f is. */
static __always_inline void set_twin_key(struct flow_key *to, const struct flow *f, __u8 proto)
{
	to->saddr = READ_ONCE(f->daddr);
	to->daddr = READ_ONCE(f->saddr);
	to->sport = READ_ONCE(f->dport);
	to->dport = READ_ONCE(f->sport);
	write_proto(to, proto);
}

/* names says that the entry at key is the twin of f. */
static __always_inline bool names(const struct flow *f, const struct flow_key *key)
{
	return same_addr(&f->daddr, &key->saddr) && same_addr(&f->saddr, &key->daddr) &&
	       f->dport == key->sport && f->sport == key->dport;
}

/* is_live says that f's tuple must not be taken from it. */
static __always_inline bool is_live(const struct moment *m, const struct flow *f,
				    struct stamp stamp)
{
	return counts(m, f, stamp) && eviction_of(stamp) != EVICT_ENDED;
}

/*
 * claim gives f to one CPU alone to delete, if it still has this stamp. Its key
 * cannot be inserted until that has been done, so all others may go on as if it
 * were gone.
 */
static __always_inline bool claim(struct flow *f, struct stamp was)
{
	struct stamp *at = stamp_at(f);
	struct stamp claimed = was;

	claimed.era = ERA_BUSY;
	if (!at || was.era == ERA_FREE || was.era == ERA_BUSY)
		return false;
	if (FAULT(254, dry_run, false))
		pretend(f->bucket, f->place, PRETEND_FREE);
	else if (!swap_stamp(at, was, claimed))
		return false;
	if (FAULT(325, true, false))
		draft_event(f, word_of(was), word_of(claimed), false);
	settle(backend_of(f), service_of(f), word_of(was),
	       FAULT(227, word_of(claimed), word_of(was)));
	return true;
}

/* give_up makes the place of f, which the caller has claimed, a free one. */
static __always_inline void give_up(struct flow *f)
{
	struct stamp *at = stamp_at(f);

	if (at && FAULT(252, !dry_run, true))
		at->era = ERA_FREE;
}

/* delete_entry deletes f unless it has changed since it had this stamp. */
static __always_inline void delete_entry(struct flow *f, struct stamp stamp)
{
	if (claim(f, stamp))
		give_up(f);
}

/*
 * goes_with says that f's twin, which names it, is to be deleted with it: it is
 * not another CPU's, who has begun to make the same flow anew.
 */
static __always_inline bool goes_with(const struct moment *m, const struct flow *f, struct stamp fs,
				      const struct flow *twin, struct stamp ts)
{
	if (f->service != twin->service || f->service_gen != twin->service_gen ||
	    f->backend != twin->backend || f->backend_gen != twin->backend_gen)
		return false;
	return is_live(m, f, fs) || !is_live(m, twin, ts);
}

/* find_twin returns the twin of f, the entry at key, with its stamp; NULL when it has none. */
static __always_inline struct flow *find_twin(const struct flow_key *key, const struct flow *f,
					      struct stamp *was)
{
	struct draft *d = draft();
	struct flow *twin;

	if (!d)
		return NULL; /* unreachable */
	set_twin_key(&d->at, f, key->proto);
	twin = find(&d->at, was);
	return twin && names(twin, key) ? twin : NULL;
}

/* delete_both is delete_pair; stamp is a struct stamp. Global, as locate is. */
__noinline int delete_both(const struct moment *m, const struct flow_key *key, struct flow *f,
			   __u64 stamp)
{
	struct stamp fs = *(struct stamp *)&stamp, ts = {};
	struct flow *twin;

	if (!m || !key || !f || !claim(f, fs))
		return 0;
	twin = find_twin(key, f, &ts);
	if (twin && goes_with(m, f, fs, twin, ts))
		delete_entry(twin, ts);
	give_up(f);
	return 0;
}

/* delete_pair deletes f, the entry at key, and its twin. That goes first: f keeps its place. */
static __always_inline void delete_pair(const struct packet *p, const struct flow_key *key,
					struct flow *f, struct stamp stamp)
{
	delete_both(&p->when, key, f, word_of(stamp));
}

/* note_flow tells of f, the packet's entry, and returns the copy that a dry run goes on with. */
static __always_inline struct flow *note_flow(const struct moment *m, const struct flow *f,
					      struct stamp stamp)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < sizeof(*f) / 8; i++)
		scratch[i] = ((const volatile __u64 *)f)[i];
	told.parts |= TOLD_FLOW;
	told.service = f->service;
	told.service_gen = f->service_gen;
	told.backend = f->backend;
	told.backend_gen = f->backend_gen;
	told.age = tick_age(m, stamp.seen);
	told.idle = f->idle;
	told.state = state_of(stamp);
	told.dir = dir_of(stamp);
	return (void *)scratch;
}

/* idle_of returns the time-out of a state, in ticks. */
static __always_inline __u32 idle_of(const struct control *c, __u8 proto, __u8 state)
{
	bool begun = state == FLOW_NEW || state == FAULT(64, FLOW_ANSWERED, FLOW_NEW);

	if (proto == IPPROTO_UDP)
		return c->idle[begun ? IDLE_UDP_NEW : IDLE_UDP_ESTABLISHED];
	if (begun)
		return c->idle[IDLE_TCP_NEW];
	return c->idle[state == FLOW_ESTABLISHED ? IDLE_TCP_ESTABLISHED : IDLE_TCP_FIN];
}

/* is_disguised says that what f forwards leaves with another source than it came with. */
static __always_inline bool is_disguised(const struct flow *f, struct stamp stamp)
{
	return dir_of(stamp) == DIR_FORWARD &&
	       (!same_addr(&f->saddr, &f->key.saddr) || READ_ONCE(f->sport) != f->key.sport);
}

/* is_robbed says that the source of the packets of f, the packet's entry, may be another flow's. */
static __always_inline bool is_robbed(const struct packet *p, const struct flow *f)
{
	struct stamp ts = {};

	return is_disguised(f, p->stamp) && !find_twin(p->key, f, &ts);
}
