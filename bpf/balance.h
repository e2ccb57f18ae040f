/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * balance.h - which slot of a service's run a try takes: rule 3, "balance".
 *
 * Who is in the run, and how often, is user space's doing: all that stands here
 * is an index into it.
 */
#pragma once

#include "family.h"

/* NO_SLOT is beyond the end of the slots. */
#define NO_SLOT (-1U)

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
	return hash;
}

/* next_slot returns the slot that the next try for the draft takes. Global, as locate is. */
__noinline __u32 next_slot(struct draft *d, __u64 run)
{
	__u32 length = run, service;
	const struct service *s;
	__u64 *turn;

	if (!d || !length)
		return NO_SLOT; /* unreachable */
	service = d->forward.service;
	s = bpf_map_lookup_elem(&services, &service);
	turn = bpf_map_lookup_elem(&turns, &service);
	if (!s || !turn)
		return NO_SLOT; /* unreachable */
	run >>= 32;
	if (s->balance == BALANCE_RANDOM)
		return run + FAULT(225, env_random(), 0) % length;
	if (is_hashed(s))
		return run + next_hash(d) % length;
	return run + __sync_fetch_and_add(turn, 1) % (length + FAULT(45, 0, 1));
}
