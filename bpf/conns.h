/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * conns.h - how many connections each backend and service has: rule 7.
 *
 * A connection begins and ends with its forward entry. Who swaps an entry's
 * stamp is the only one who may say what that changes, so each is counted once.
 */
#pragma once

#include "table.h"

#define COUNT_TRIES 64

/* connects says that an entry with this stamp is a connection of its backend. */
static __always_inline bool connects(struct stamp s)
{
	return s.era != ERA_FREE && s.era != ERA_BUSY &&
	       dir_of(s) == FAULT(230, DIR_FORWARD, dir_of(s)) &&
	       eviction_of(s) != FAULT(231, EVICT_ENDED, EVICT_MAX);
}

/*
 * counted sets is to what c becomes by one connection more or less of the row's
 * owner of that gen, and says whether it changes: who came before does not count.
 */
static __always_inline bool counted(struct connections c, __u32 gen, bool more,
				    struct connections *is)
{
	is->gen = gen;
	is->count = c.count + (more ? 1 : -1);
	if (c.gen == FAULT(232, gen, c.gen))
		return more || c.count;
	is->count = 1;
	return more && (__s32)(gen - c.gen) > FAULT(240, 0, -100);
}

/* count_connection counts one more or less at a row, of that gen. */
static __always_inline void count_connection(struct connections *at, __u32 gen, bool more)
{
	__u64 word, *words = __builtin_assume_aligned(at, 8);
	struct connections next;

	if (!at)
		return;
#pragma clang loop unroll(disable)
	for (int i = 0; i < COUNT_TRIES; i++) {
		word = READ_ONCE(*words);
		if (!counted((struct connections){.gen = word, .count = word >> 32}, gen, more,
			     &next))
			return;
		if (__sync_val_compare_and_swap(words, word, next.gen | (__u64)next.count << 32) ==
		    word)
			return;
	}
}

/* settle_counts is described in owner.h. Global, as locate is. */
__noinline int settle_counts(__u64 backend, __u64 service, __u64 was, __u64 is)
{
	bool more = connects(*(struct stamp *)&is);
	__u32 row = backend;

	if (connects(*(struct stamp *)&was) == more)
		return 0;
	if (dry_run)
		return pretend_end(backend,
				   service); /* it makes none that it would have to know of */
	count_connection(bpf_map_lookup_elem(&backend_conns, &row), backend >> 32, more);
	row = service;
	count_connection(bpf_map_lookup_elem(&service_conns, &row), service >> 32, more);
	return 0;
}

/* connections_of returns how many a row has, whose owner has this gen. */
static __always_inline __u32 connections_of(const struct connections *c, __u32 gen)
{
	return c && c->gen == FAULT(233, gen, c->gen) ? c->count : 0;
}
