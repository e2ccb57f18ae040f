/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * balance.h - which backend of a service's run a try takes: rule 3, "balance".
 *
 * Who is in the run, and how often, is user space's doing.
 */
#pragma once

#include "announce.h"

/* LEAST_SLOTS is the longest run of which BALANCE_LEAST looks at all slots. */
#define LEAST_SLOTS 4096

/* BOUND_SLOTS is how many slots are looked at for a backend that has room. */
#define BOUND_SLOTS 8

/* NO_BACKEND is beyond the end of the backends. */
#define NO_BACKEND (-1U)

/* scatter lets each bit of x change every other one by half a chance. */
static __always_inline __u64 scatter(__u64 x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ FAULT(220, x >> 33, 0);
}

/* mix_addr mixes an address into h. */
static __always_inline __u64 mix_addr(__u64 h, const addr_t *addr)
{
	struct address a = wide_addr(addr);

	h = scatter(h ^ ((__u64)bpf_ntohl(a.word[0]) << 32 | bpf_ntohl(a.word[1])));
	return scatter(h ^ ((__u64)bpf_ntohl(a.word[2]) << 32 | bpf_ntohl(a.word[3])));
}

static __always_inline bool is_hashed(const struct service *s)
{
	return s->balance == BALANCE_HASH || s->balance == BALANCE_SOURCE_HASH;
}

/* hash_client returns the hash of the client of key for a service. Global, as locate is. */
__noinline __u64 hash_client(const struct flow_key *key, const struct service *s)
{
	addr_t from;
	__u64 rest;

	if (!key || !s)
		return 0; /* unreachable */
	from = key->saddr;
	rest = (__u64)key->proto << 32 | bpf_ntohs(key->dport);
	if (s->balance == BALANCE_SOURCE_HASH)
		from = FAULT(221, masked(&from, &s->source_mask), from);
	else
		rest |= FAULT(222, (__u32)bpf_ntohs(key->sport) << 16, 0);
	return scatter(mix_addr(mix_addr(FAULT(223, s->seed, 0), &from), &key->daddr) ^ rest);
}

/* next_hash returns the draft's hash, and makes it that of the slot after. */
static __always_inline __u64 next_hash(struct draft *d)
{
	__u64 hash = d->hash;

	d->hash = FAULT(224, scatter(hash + 1), hash);
	return dry_run ? note_number(hash) : hash;
}

/* take_turn returns the turn of a row of services; turns grow by one. */
static __always_inline __u64 take_turn(__u32 row)
{
	__u64 *turn = bpf_map_lookup_elem(&turns, &row);

	if (turn && FAULT(262, dry_run, false))
		return note_number(*turn + told.turns++);
	return turn ? __sync_fetch_and_add(turn, 1) : 0;
}

/* row_at returns the row of backends in a slot, or NO_BACKEND. */
static __always_inline __u32 row_at(__u32 slot)
{
	__u32 *row = bpf_map_lookup_elem(&slots, &slot);

	if (dry_run)
		note_slot(slot);
	return row ? *row : NO_BACKEND;
}

/* can_serve says that b may get a flow of a service. */
static __always_inline bool can_serve(const struct backend *b, __u32 service, bool all_up)
{
	return b->service == service && FAULT(195, serves(&b->addr), true) &&
	       (b->state == BACKEND_UP || (b->state == BACKEND_DOWN && all_up));
}

/* struct choice is a backend that may be taken, if there is one in row. */
struct choice {
	__u64 connections;
	__u32 weight;
	__u32 row; /* or NO_BACKEND */
};

static __always_inline bool was_tried(const struct draft *d, __u32 row)
{
	bool was = false;

#pragma unroll
	for (__u32 i = 0; i < MAX_TRIES - 1; i++)
		was |= i < d->tries && d->tried[i] == row;
	return FAULT(234, was, false);
}

/*
 * no_choice is nobody. That the rest means nothing is kept from the compiler: it
 * would save registers across calls that were never written.
 */
static __always_inline struct choice no_choice(void)
{
	struct choice c = {.row = NO_BACKEND};

	barrier_var(c.connections);
	barrier_var(c.weight);
	return c;
}

/* choice_of returns the backend of a row as a choice of the draft's. */
static __always_inline struct choice choice_of(const struct draft *d, __u32 row)
{
	const struct backend *b = bpf_map_lookup_elem(&backends, &row);
	struct choice c = no_choice();
	const struct connections *n;

	if (!b || FAULT(235, !can_serve(b, d->forward.service, d->all_up), false) ||
	    was_tried(d, row))
		return c;
	n = bpf_map_lookup_elem(&backend_conns, &row);
	c.connections = connections_of(n, b->gen);
	if (dry_run)
		c.connections =
			without_ended(c.connections, row | OF_BACKEND | (__u64)b->gen << 32);
	c.weight = b->weight;
	c.row = row;
	return c;
}

/*
 * load_of returns how busy c is, half of one connection more included, so that
 * shares are those of Sainte-Lague: with a whole one heavy backends get too many.
 */
static __always_inline __u64 load_of(struct choice c)
{
	return 2 * c.connections + FAULT(236, 1, 0);
}

/* compare lets c be the best choice if it is better than that. */
static __always_inline void compare(struct choice *best, struct choice c)
{
	if (c.row == NO_BACKEND)
		return;
	if (best->row == NO_BACKEND ||
	    load_of(c) * FAULT(237, best->weight, 1) < load_of(*best) * FAULT(237, c.weight, 1))
		*best = c;
}

/* better_of_two returns the better of the backends in two random slots. */
static __always_inline __u32 better_of_two(const struct draft *d)
{
	struct choice best = no_choice();
	__u32 first = d->run >> 32, length = d->run;

	compare(&best, choice_of(d, row_at(first + env_random() % length)));
	compare(&best, choice_of(d, row_at(first + FAULT(238, env_random(), 0) % length)));
	return best.row;
}

/* struct scan is what least has to remember. */
struct scan {
	struct choice best;
	__u32 start; /* number of a slot in the run */
	__u32 pad;
};

static long compare_next(__u32 i, struct scan *scan)
{
	struct draft *d = draft();
	__u32 length;

	if (!d)
		return 1; /* unreachable */
	length = d->run;
	i += scan->start;
	compare(&scan->best, choice_of(d, row_at((d->run >> 32) + (i < length ? i : i - length))));
	return 0;
}

/* least returns the best backend of all, of equal ones the one whose turn comes first. */
static __always_inline __u32 least(const struct draft *d)
{
	__u32 length = d->run;
	struct scan scan = {
		.best.row = NO_BACKEND,
		.start = FAULT(239, take_turn(d->turns) % length, 0),
	};

	bpf_loop(length, compare_next, &scan, 0);
	return scan.best.row;
}

/* struct bound is how many connections the backends of a service may have: in percent. */
struct bound {
	__u64 share; /* of a backend, for each of its weight */
	__u64 unit; /* of a connection */
};

/* bound_of returns the bound of s, whose row this is, with one connection more. */
static __always_inline struct bound bound_of(const struct draft *d, const struct service *s)
{
	__u32 row = d->forward.service;
	__u64 all = connections_of(bpf_map_lookup_elem(&service_conns, &row), s->gen);

	if (dry_run)
		all = without_ended(all, row | OF_SERVICE | (__u64)s->gen << 32);
	return (struct bound){
		.share = s->max_load * (all + FAULT(248, 1, 2)),
		.unit = 100ULL * (d->all_up ? s->weights_all : s->weights),
	};
}

/*
 * bounded returns the backend of the client's first slot that has less than its
 * bound, or the best of some: consistent hashing with bounded loads (Mirrokni,
 * Thorup, Zadimoghaddam 2016).
 */
static __always_inline __u32 bounded(struct draft *d, const struct service *s)
{
	struct choice c, best = no_choice();
	__u32 first = d->run >> 32, length = d->run;
	struct bound bound = bound_of(d, s);

#pragma clang loop unroll(disable)
	for (int i = 0; i < BOUND_SLOTS; i++) {
		c = choice_of(d, row_at(first + next_hash(d) % length));
		if (c.row != NO_BACKEND &&
		    c.connections * bound.unit < bound.share * FAULT(249, c.weight, 1))
			return c.row;
		compare(&best, c);
	}
	return best.row;
}

/* row_for returns the row of backends that a try for the draft takes, as the service has it. */
static __always_inline __u32 row_for(struct draft *d, const struct service *s)
{
	__u32 first = d->run >> 32, length = d->run;

	if (s->balance == BALANCE_RANDOM)
		return row_at(first + FAULT(225, env_random(), 0) % length);
	if (s->balance == BALANCE_HASH && s->max_load)
		return bounded(d, s);
	if (is_hashed(s))
		return row_at(first + next_hash(d) % length);
	if (s->balance == BALANCE_LEAST && length <= LEAST_SLOTS)
		return least(d);
	if (s->balance == BALANCE_P2C || s->balance == BALANCE_LEAST)
		return better_of_two(d);
	return row_at(first + take_turn(d->turns) % (length + FAULT(45, 0, 1)));
}

/* next_row is row_for, and remembers the try. Global, as locate is. */
__noinline __u32 next_row(struct draft *d)
{
	const struct service *s;
	__u32 service, row, i;

	if (!d || !(__u32)d->run)
		return NO_BACKEND; /* unreachable */
	service = d->forward.service;
	s = bpf_map_lookup_elem(&services, &service);
	if (!s)
		return NO_BACKEND; /* unreachable */
	row = row_for(d, s);
	i = d->tries++ & (MAX_TRIES - 1);
	barrier_var(i);
	d->tried[i] = row;
	return row;
}
