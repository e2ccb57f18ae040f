/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* narrow.h - addresses of the program that knows IPv4 alone: four bytes. See family.h. */
#pragma once

#include "csum.h"

#define PROGRAM fairlead
#define FAST __always_inline
#define HAS_SHORT_CUT true
#define AF_INET 2

typedef struct iphdr ip_header_t;

#include "ends.h"

/* struct words is a key as the integers that it is hashed as. */
struct words {
	__u64 addrs;
	__u64 rest; /* ports and protocol */
};

/* words_at reads a packet's key. Ports are TCP's or UDP's. */
static __always_inline struct words words_at(const ip_header_t *ip, const void *ports)
{
	return (struct words){
		.addrs = ip->saddr | (__u64)ip->daddr << 32,
		.rest = *(const __u32 *)ports | (__u64)ip->protocol << 32,
	};
}

static __always_inline __u64 sum_words(const struct control *c, struct words w)
{
	return w.addrs * c->hash_a + w.rest * c->hash_b;
}

/* sum_key returns the sum that a key's hash is made of. */
static __always_inline __u64 sum_key(const struct control *c, const struct flow_key *k)
{
	return sum_words(c,
			 (struct words){
				 .addrs = k->saddr | (__u64)k->daddr << 32,
				 .rest = k->sport | (__u64)k->dport << 16 | (__u64)k->proto << 32,
			 });
}

/* has_words says that f has the key w. */
static __always_inline bool has_words(const struct flow *f, struct words w)
{
	return *(__u64 *)&f->key.saddr == w.addrs && *(__u64 *)&f->key.sport == w.rest;
}

static __always_inline bool same_addr(const addr_t *a, const addr_t *b)
{
	return READ_ONCE(*a) == *b;
}

/* addr_change returns what the change of an address adds to a checksum, not folded. */
static __always_inline __u64 addr_change(const addr_t *from, const addr_t *to)
{
	return (__u64)(__u32) ~*from + *to;
}

/* own_addr returns an address of this family out of a row of both. */
static __always_inline addr_t own_addr(const struct address *a)
{
	return a->word[3];
}

/* wide_addr returns an address for a row of both families. */
static __always_inline struct address wide_addr(const addr_t *addr)
{
	return (struct address){.word = {0, 0, bpf_htonl(0xffff), *addr}};
}

/* word_in returns where an address has its bytes of IPv4. */
static __always_inline const __be32 *word_in(const addr_t *addr)
{
	return addr;
}

/* write_ends gives a header the addresses that f's packets leave with. */
static __always_inline void write_ends(ip_header_t *ip, const struct flow *f)
{
	COPY(&ip->saddr, &f->saddr, 8);
}

static __always_inline addr_t masked(const addr_t *addr, const struct address *mask)
{
	return *addr & FAULT(80, mask->word[3], 0xffffffff);
}

/* set_ends says between which addresses a way is looked up. */
static __always_inline void set_ends(struct bpf_fib_lookup *to, const addr_t *from_addr,
				     const addr_t *to_addr, __u8 tos)
{
	to->family = AF_INET;
	to->tos = tos;
	to->ipv4_src = *from_addr;
	to->ipv4_dst = *to_addr;
}

/* fib_end is where a way is looked up to. */
static __always_inline addr_t fib_end(const struct bpf_fib_lookup *fib)
{
	return fib->family == AF_INET ? fib->ipv4_dst : 0;
}

/* serves says that this program makes flows to a backend: to one of IPv4. */
static __always_inline bool serves(const struct address *backend)
{
	return !backend->word[0] && !backend->word[1] && backend->word[2] == bpf_htonl(0xffff);
}

/* is_mixed says that a flow's packets come in one family and leave in the other. */
static __always_inline bool is_mixed(const struct flow *f)
{
	(void)f;
	return false;
}

/* source_ports returns the ports that a source of our own may have. */
static __always_inline __u32 source_ports(const struct control *c, const addr_t *addr, __u16 *first)
{
	(void)addr;
	*first = c->snat_port;
	return c->snat_ports;
}

/* same_kind says that two addresses are of one family. */
static __always_inline bool same_kind(const addr_t *a, const addr_t *b)
{
	(void)a;
	(void)b;
	return true;
}
