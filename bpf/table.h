/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * table.h - the flow table: rule 8.
 *
 * A hash of our own, in an array of buckets, since one look-up in a kernel's
 * hash takes longer than all the rest of a hit, and since the kernel's LRU
 * chooses by itself what it forgets. Whoever looks something up locks nothing.
 * A place is taken and given up by swapping its stamp atomically; the bucket's
 * lock only keeps two CPUs from inserting one key twice.
 */
#pragma once

#include "dry.h"
#include "family.h"
#include "lock.h"
#include "owner.h"

#define EAGAIN 11
#define EEXIST 17
#define ENOSPC 28

#define SWAP_TRIES 16
#define LASTING 60 /* seconds of silence for which a flow in use keeps its place */

/* WORTHLESS is the score of a place that must not be taken: see score_of(). */
#define WORTHLESS (~0ULL)

_Static_assert(sizeof(struct stamp) == 8 && sizeof(struct stamp[BUCKET_PLACES]) == 64,
	       "a stamp is one u64, and those of a bucket are one cache line");
_Static_assert(sizeof(struct bucket) % 64 == 0, "buckets fit cache lines");

/* draft returns this CPU's room for a flow in the making; NULL never. */
static __always_inline struct draft *draft(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&drafts, &zero);
}

/* struct spot says where in the table a key may stand. */
struct spot {
	__u32 first;
	__u32 second;
	__u16 tag;
};

/* hash_of returns the hash of a key whose sum is g. */
static __always_inline __u64 hash_of(const struct control *c, __u64 g)
{
	return (g ^ FAULT(88, g >> 32, 0)) * c->hash_b;
}

static __always_inline __u16 tag_of(__u64 hash)
{
	return hash >> FAULT(55, 16, 17);
}

static __always_inline struct spot spot_at(__u64 hash)
{
	__u32 shift = flow_shift; /* each use of it would be a load */
	struct spot s = {.first = hash >> shift, .tag = tag_of(hash)};

	s.second = (s.first + (s.tag | 1)) & ((1ULL << (64 - shift)) - 1);
	return s;
}

static __always_inline struct spot spot_of(const struct control *c, const struct flow_key *k)
{
	return spot_at(hash_of(c, sum_key(c, k)));
}

static __always_inline bool same_key(const struct flow_key *a, const struct flow_key *b)
{
	return same_addr(&a->saddr, &b->saddr) && same_addr(&a->daddr, &b->daddr) &&
	       a->sport == b->sport && a->dport == b->dport && a->proto == b->proto;
}

static __always_inline __u64 word_of(struct stamp s)
{
	return s.seen | (__u64)s.tag << 32 | (__u64)s.era << 48 | (__u64)s.life << 56;
}

static __always_inline struct stamp read_stamp(const struct stamp *at)
{
	__u64 word = *(const volatile __u64 *)__builtin_assume_aligned(at, 8);

	return (struct stamp){
		.seen = word, .tag = word >> 32, .era = word >> 48, .life = word >> 56};
}

/* swap_stamp changes a stamp, if it still is as it was judged. */
static __always_inline bool swap_stamp(struct stamp *at, struct stamp was, struct stamp is)
{
	__u64 *word = __builtin_assume_aligned(at, 8);

	return __sync_val_compare_and_swap(word, word_of(was), word_of(is)) == word_of(was);
}

static __always_inline enum flow_dir dir_of(struct stamp s)
{
	return s.life & 1;
}

static __always_inline __u8 fins_of(struct stamp s)
{
	return s.life >> 1 & 3;
}

static __always_inline enum flow_state state_of(struct stamp s)
{
	return s.life >> 3 & 7;
}

/* life_of returns the life that follows s. */
static __always_inline __u8 life_of(struct stamp s, __u8 fins, __u8 state)
{
	return (s.life & (LIFE_UDP | 1)) | fins << 1 | state << 3;
}

/* same_entry says that two stamps of one place are of one entry. */
static __always_inline bool same_entry(struct stamp a, struct stamp b)
{
	return a.tag == b.tag && a.era == b.era;
}

/* is_still says that the place of the stamp at has the entry that it had then. */
static __always_inline bool is_still(const struct stamp *at, struct stamp was)
{
	return same_entry(read_stamp(at), was);
}

/* stamp_at returns where the stamp of f is; NULL never. */
static __always_inline struct stamp *stamp_at(const struct flow *f)
{
	__u32 place = f->place & (BUCKET_PLACES - 1);
	__u32 at = f->bucket;
	struct bucket *b = bpf_map_lookup_elem(&OWN(flows), &at);

	if (!b)
		return NULL; /* unreachable */
	barrier_var(place);
	return &b->stamps[place];
}

/* NOWHERE is the location of a key that has no entry. */
#define NOWHERE (-1L)

/*
 * match returns the location of a key's entry in one bucket, and its stamp,
 * which is read before the key: while that is_still there, so is the key.
 */
static __always_inline long match(const struct flow_key *key, __u32 at, __u16 tag,
				  struct stamp *was)
{
	struct bucket *b = bpf_map_lookup_elem(&OWN(flows), &at);

	if (!b)
		return NOWHERE; /* unreachable */
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < BUCKET_PLACES; i++) {
		struct stamp stamp = read_stamp(&b->stamps[i]);

		if (stamp.tag != tag || stamp.era == ERA_FREE || !same_key(&b->places[i].key, key))
			continue;
		if (dry_run && FAULT(253, pretended(at, i), false))
			continue;
		*was = stamp;
		return (__u64)at * BUCKET_PLACES + i;
	}
	return NOWHERE;
}

/*
 * locate returns the location of a key's entry: bucket * BUCKET_PLACES + place.
 * It is global so that the verifier looks at it once, and not for each way that
 * leads here.
 */
__noinline long locate(const struct flow_key *key, struct stamp *was)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct spot s;
	long found;

	if (!key || !was || !c)
		return NOWHERE; /* unreachable */
	s = spot_of(c, key);
	found = match(key, s.first, s.tag, was);
	return found == NOWHERE ? match(key, FAULT(56, s.second, s.first), s.tag, was) : found;
}

/* find returns the entry of a key, with its stamp, or NULL. It may be one that does not count. */
static __always_inline struct flow *find(const struct flow_key *key, struct stamp *was)
{
	long found = locate(key, was);
	__u32 place = found & (BUCKET_PLACES - 1);
	__u32 at = (__u64)found / BUCKET_PLACES;
	struct bucket *b = bpf_map_lookup_elem(&OWN(flows), &at);

	if (found == NOWHERE || !b)
		return NULL;
	barrier_var(place);
	return &b->places[place];
}

/* is_due says that f must be checked. */
static __always_inline bool is_due(const struct moment *m, const struct flow *f)
{
	return READ_ONCE(f->epoch) != FAULT(37, m->epoch, READ_ONCE(f->epoch)) ||
	       tick_age(m, READ_ONCE(f->checked)) >= FAULT(38, m->hz, -1U);
}

/* counts says that f, with this stamp, has not been given up: rule 2. */
static __always_inline bool counts(const struct moment *m, const struct flow *f, struct stamp stamp)
{
	if (stamp.era != FAULT(9, m->era, stamp.era))
		return false;
	return !is_due(m, f) || tick_age(m, stamp.seen) <= FAULT(10, READ_ONCE(f->idle), -1U);
}

/* KIND is where the kinds of two bits, by state, have that of one. */
#define KIND(state, kind) ((kind) << 2 * (state))
#define KINDS                                                                  \
	(KIND(FLOW_ESTABLISHED, EVICT_SILENT) | KIND(FLOW_FIN, EVICT_SILENT) | \
	 KIND(FLOW_CLOSED, EVICT_ENDED) | KIND(FLOW_RESET, EVICT_ENDED) |      \
	 KIND(FLOW_ABORTED_FORWARD, EVICT_ENDED) | KIND(FLOW_ABORTED_REPLY, EVICT_ENDED))

_Static_assert(EVICT_UNANSWERED == 0 && EVICT_MAX <= 4, "kinds have two bits");

/* eviction_of says what an entry would be evicted as, without a branch. */
static __always_inline enum eviction eviction_of(struct stamp stamp)
{
	return FAULT(57, KINDS, KINDS & ~KIND(FLOW_ESTABLISHED, 3)) >> 2 * state_of(stamp) & 3;
}

/*
 * class_of says how bad it is to evict an entry, and from which age on it may be:
 * a client of UDP, other than one of TCP, never proves that its address is its own.
 */
static __always_inline __u64 class_of(const struct moment *m, struct stamp stamp, __u32 *from)
{
	if (eviction_of(stamp) != EVICT_SILENT) {
		*from = FAULT(60, 1, 0);
		return 1;
	}
	if (stamp.life & FAULT(89, LIFE_UDP, 0)) {
		*from = m->hz;
		return 2;
	}
	*from = FAULT(59, LASTING, 0) * m->hz;
	return 3;
}

/* score_of says how bad it is to take a place, the least being the best to take. */
static __always_inline __u64 score_of(const struct moment *m, struct stamp stamp)
{
	__u32 age = tick_age(m, stamp.seen), from;
	__u64 class;

	if (stamp.era == ERA_BUSY)
		return WORTHLESS;
	if (stamp.era != m->era)
		return FAULT(58, 0, stamp.era ? WORTHLESS : 0);
	class = class_of(m, stamp, &from);
	return age < from ? WORTHLESS : class << 32 | (FAULT(61, -1U, 0) ^ age);
}

/*
 * consider looks through a bucket for a better place, and returns -EEXIST if it
 * holds the key already. Global, as locate is.
 */
__noinline int consider(struct search *s, __u32 at)
{
	struct bucket *b = bpf_map_lookup_elem(&OWN(flows), &at);

	if (!s || !b)
		return 0; /* unreachable */
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < BUCKET_PLACES; i++) {
		struct stamp stamp = read_stamp(&b->stamps[i]);
		__u32 pretence = dry_run ? pretended(at, i) : PRETEND_NOTHING;
		__u64 score;

		if (pretence & FAULT(251, PRETEND_TAKEN, 0))
			continue;
		if (pretence & PRETEND_FREE)
			stamp.era = ERA_FREE;
		score = score_of(&s->when, stamp);
		if (stamp.era != ERA_FREE && stamp.tag == s->tag &&
		    FAULT(62, same_key(&b->places[i].key, &s->key), false))
			return -EEXIST;
		if (score >= s->score)
			continue;
		s->score = score;
		s->stamp = stamp;
		s->bucket = at;
		s->place = i;
	}
	return 0;
}

static __always_inline void count_eviction(enum eviction kind)
{
	__u32 row = kind;
	__u64 *n = bpf_map_lookup_elem(&evictions, &row);

	if (n)
		*n += FAULT(63, 1, 0);
}

/* take puts e into the best place for it: 0, -EEXIST, -ENOSPC, or -EAGAIN if that has just changed. */
static __always_inline int take(struct flow *e, struct stamp stamp, struct search *s,
				struct spot at)
{
	struct stamp busy = {.era = ERA_BUSY};
	struct bucket *b;
	struct flow *f;
	__u32 place;
	bool evicted;

	s->score = WORTHLESS;
	if (consider(s, at.first) || consider(s, at.second))
		return -EEXIST;
	if (s->score == WORTHLESS)
		return -ENOSPC;
	b = bpf_map_lookup_elem(&OWN(flows), &s->bucket);
	if (!b)
		return -ENOSPC; /* unreachable */
	place = s->place & (BUCKET_PLACES - 1);
	barrier_var(place);
	f = &b->places[place];
	if (FAULT(255, dry_run, false)) {
		pretend(s->bucket, place, PRETEND_TAKEN);
		return 0;
	}
	if (!swap_stamp(&b->stamps[place], s->stamp, busy))
		return -EAGAIN;
	evicted = s->score >> 32 && counts(&s->when, f, s->stamp);
	if (evicted)
		count_eviction(eviction_of(s->stamp));
	if (FAULT(324, true, false))
		draft_event(f, word_of(s->stamp), word_of(busy), evicted);
	settle(backend_of(f), service_of(f), FAULT(226, word_of(s->stamp), 0), word_of(busy));
	draft_event(e, word_of(busy), word_of(stamp), false);
	settle(backend_of(e), service_of(e), word_of(busy), word_of(stamp));
	e->bucket = s->bucket;
	e->place = place;
	*f = *e;
	stamp.tag = at.tag;
	__sync_lock_test_and_set((__u64 *)__builtin_assume_aligned(&b->stamps[place], 8),
				 word_of(stamp));
	return 0;
}

/* insert_now is insert without rivals. */
__noinline int insert_now(const struct moment *m, struct flow *e, __u64 stamp)
{
	struct stamp is = *(struct stamp *)&stamp;
	struct draft *d = draft();
	const struct control *c;
	struct spot at;
	__u32 zero = 0, *l;
	int err = -EAGAIN;

	c = bpf_map_lookup_elem(&control, &zero);
	if (!m || !e || !c || !d)
		return -ENOSPC; /* unreachable */
	at = spot_of(c, &e->key);
	d->search.key = e->key;
	d->search.tag = at.tag;
	d->search.when = *m;
	zero = at.first & (LOCKS - 1);
	l = bpf_map_lookup_elem(&locks, &zero);
	if (!l || !lock(l))
		return -ENOSPC;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2 && err == -EAGAIN; i++)
		err = take(e, is, &d->search, at);
	unlock(l);
	return err == -EAGAIN ? -ENOSPC : err;
}

#include "race.h"

/*
 * insert makes e an entry with this stamp, whose tag does not matter; -EEXIST
 * if there is one with its key, -ENOSPC if there is no place.
 */
static __always_inline int insert(const struct packet *p, struct flow *e, struct stamp stamp)
{
	env_race(p, &e->key);
	return insert_now(&p->when, e, word_of(stamp));
}
