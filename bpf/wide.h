/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * wide.h - addresses of the programs that know both families: sixteen bytes,
 * those of IPv4 as ::ffff:a.b.c.d. See family.h.
 */
#pragma once

#include "csum.h"

#define FAST __noinline /* the stack has no room for what it needs beside all the rest */
#define AF_INET 2
#define AF_INET6 10
#define FAR_GROWTH 20 /* an IPv6 header is so much longer */
#define NEXT_FRAGMENT 44 /* the fragment header of IPv6 */
#define MAPPED bpf_htonl(0xffff) /* the third word of an address of IPv4 */

/* struct ip_header is linux/ipv6.h's ipv6hdr, with addresses as maps have them. */
struct ip_header {
	__u8 begin[4]; /* version, traffic class and flow label */
	__be16 payload;
	__u8 next;
	__u8 hops;
	struct address saddr;
	struct address daddr;
};

/* struct extension is the least of an extension header of IPv6. */
struct extension {
	__u8 next;
	__u8 len; /* what is more than this, in units of it; not a fragment's */
	union {
		__be16 part; /* a fragment's: its offset in bytes, and 1 if more follow */
		struct {
			__u8 type;
			__u8 left; /* segments of a routing header */
		};
	};
	__be32 id; /* a fragment's */
};

/* struct words is a key as the integers that it is hashed as. */
struct words {
	__u64 saddr[2];
	__u64 daddr[2];
	__u64 rest; /* ports and protocol */
};

/* half returns two words of an address as one integer. */
static __always_inline __u64 half(const __be32 *word)
{
	return word[0] | (__u64)word[1] << 32;
}

/* mix returns the part of a hash's sum that a half has, whose last bytes differ most. */
static __always_inline __u64 mix(__u64 half, __u64 hash)
{
	return __builtin_bswap64(half) * hash;
}

/*
 * add_half returns sum with a part of an address. It has computed that before
 * the next part is read: there is no room on the stack for all of them.
 */
static __always_inline __u64 add_half(__u64 sum, const __be32 *word, __u64 hash)
{
	sum += mix(half(word), hash);
	barrier_var(sum);
	barrier();
	return sum;
}

/* sum_key returns the sum that a key's hash is made of. */
static __always_inline __u64 sum_key(const struct control *c, const struct flow_key *k)
{
	__u64 sum = 0;

	sum = add_half(sum, k->saddr.word, c->hash_a);
	sum = add_half(sum, k->saddr.word + 2, c->hash_b);
	sum = add_half(sum, k->daddr.word, c->hash_c);
	sum = add_half(sum, k->daddr.word + 2, FAULT(160, c->hash_d, 0));
	return sum + (k->sport | (__u64)k->dport << 16 | (__u64)k->proto << 32) * c->hash_e;
}

/* sum_words is sum_key for words. */
static __always_inline __u64 sum_words(const struct control *c, struct words w)
{
	return mix(w.saddr[0], c->hash_a) + mix(w.saddr[1], c->hash_b) +
	       mix(w.daddr[0], c->hash_c) + mix(w.daddr[1], c->hash_d) + w.rest * c->hash_e;
}

/* has_words says that f has the key w. */
static __always_inline bool has_words(const struct flow *f, struct words w)
{
	const __u64 *key = (const void *)&f->key;

	return key[0] == w.saddr[0] && key[1] == w.saddr[1] && key[2] == w.daddr[0] &&
	       key[3] == w.daddr[1] && key[4] == w.rest;
}

static __always_inline bool same_addr(const addr_t *a, const addr_t *b)
{
	return half(a->word) == half(b->word) &&
	       FAULT(161, half(a->word + 2) == half(b->word + 2), true);
}

/* addr_change returns what the change of an address adds to a checksum, not folded. */
static __always_inline __u64 addr_change(const addr_t *from, const addr_t *to)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += (__u64)(__u32)~from->word[i] + to->word[i];
	return sum;
}

/* own_addr returns an address of this family out of a row of both. */
static __always_inline addr_t own_addr(const struct address *a)
{
	return *a;
}

/* wide_addr returns an address for a row of both families. */
static __always_inline struct address wide_addr(const addr_t *addr)
{
	return *addr;
}

/* is_mapped says that an address is one of IPv4. */
static __always_inline bool is_mapped(const addr_t *addr)
{
	return !addr->word[0] && !addr->word[1] && addr->word[2] == MAPPED;
}

/* same_kind says that two addresses are of one family. */
static __always_inline bool same_kind(const addr_t *a, const addr_t *b)
{
	return is_mapped(a) == is_mapped(b);
}

/* is_mixed says that a flow's packets come in one family and leave in the other. */
static __always_inline bool is_mixed(const struct flow *f)
{
	return !same_kind(&f->key.daddr, &f->daddr);
}

/*
 * source_ports returns how many ports a source of our own has. Those of IPv4 have
 * others here than in the narrow program, whose flows are not seen.
 */
static __always_inline __u32 source_ports(const struct control *c, const addr_t *addr, __u16 *first)
{
	bool mapped = FAULT(181, is_mapped(addr), false);

	*first = mapped ? c->mixed_port : c->snat_port;
	return mapped ? c->mixed_ports : c->snat_ports;
}

/* set_ends says between which addresses a way is looked up. */
static __always_inline void set_ends(struct bpf_fib_lookup *to, const addr_t *from_addr,
				     const addr_t *to_addr, __u8 tos)
{
	if (is_mapped(to_addr)) {
		to->family = AF_INET;
		to->tos = tos;
		to->ipv4_src = from_addr->word[3];
		to->ipv4_dst = to_addr->word[3];
		return;
	}
	to->family = AF_INET6;
	to->flowinfo = bpf_htonl((__u32)tos << 20);
	COPY(to->ipv6_src, from_addr, 16);
	COPY(to->ipv6_dst, to_addr, 16);
}

/* fib_end is where a way is looked up to. */
static __always_inline addr_t fib_end(const struct bpf_fib_lookup *fib)
{
	if (fib->family == AF_INET)
		return (addr_t){.word = {0, 0, MAPPED, fib->ipv4_dst}};
	return *(const addr_t *)fib->ipv6_dst;
}
