/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * mixed.h - IPv4 with the addresses of both families: what differs from
 * narrow.h in the program for services of IPv4 that have backends of IPv6, and
 * for backends of IPv4 that serve IPv6. See family.h.
 */
#pragma once

#include "wide.h"

#define PROGRAM fairlead46
#define HAS_SHORT_CUT false /* its flows lead into the other family */

typedef struct iphdr ip_header_t;

/* mapped_half is the second half of an address of IPv4; the first one is 0. */
static __always_inline __u64 mapped_half(__be32 addr)
{
	return MAPPED | (__u64)addr << 32;
}

/* words_at reads a packet's key. Ports are TCP's or UDP's. */
static __always_inline struct words words_at(const ip_header_t *ip, const void *ports)
{
	return (struct words){
		.saddr = {0, mapped_half(ip->saddr)},
		.daddr = {0, mapped_half(ip->daddr)},
		.rest = *(const __u32 *)ports | (__u64)ip->protocol << 32,
	};
}

/* word_in returns where an address has its bytes of IPv4. */
static __always_inline const __be32 *word_in(const addr_t *addr)
{
	return &addr->word[3];
}

static __always_inline addr_t source_of(const ip_header_t *ip)
{
	return (addr_t){.word = {0, 0, MAPPED, ip->saddr}};
}

static __always_inline addr_t destination_of(const ip_header_t *ip)
{
	return (addr_t){.word = {0, 0, MAPPED, ip->daddr}};
}

/* set_source and set_destination replace the addresses of a header. */
static __always_inline void set_source(ip_header_t *ip, const addr_t *addr)
{
	ip->saddr = addr->word[3];
}

static __always_inline void set_destination(ip_header_t *ip, const addr_t *addr)
{
	ip->daddr = addr->word[3];
}

/* write_ends gives a header the addresses that f's packets leave with. */
static __always_inline void write_ends(ip_header_t *ip, const struct flow *f)
{
	set_source(ip, &f->saddr);
	set_destination(ip, &f->daddr);
}

/* serves says that this program makes flows to a backend: to one of IPv6. */
static __always_inline bool serves(const struct address *backend)
{
	return !is_mapped(backend);
}

static __always_inline addr_t masked(const addr_t *addr, const struct address *mask)
{
	addr_t net = *addr;

	net.word[3] &= FAULT(182, mask->word[3], -1U);
	return net;
}
