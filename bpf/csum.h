/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * csum.h - Internet checksums (RFC 1071) and their updates (RFC 1624).
 *
 * Sums are of 16-bit words as they lie in memory; ones' complement addition
 * does not mind the byte order. What a flow's translation adds to a checksum is
 * the same for each of its packets, so its entry keeps it, folded.
 */
#pragma once

#include "packet.h"

/* TTL's word loses one in its first byte: ~m + m' is this for every m. */
#define TTL_DELTA (0xffff - bpf_htons(0x0100))

/* fold returns the ones' complement sum of a's 16-bit words. */
static __always_inline __u16 fold(__u64 a)
{
	a = (a & 0xffffffff) + (a >> 32);
	a = (a & 0xffffffff) + (a >> 32);
	a = (a & 0xffff) + (a >> 16);
	a = (a & 0xffff) + (a >> 16);
	return a;
}

/* addr_delta returns what the change of both addresses adds, not folded. */
static __always_inline __u64 addr_delta(const struct flow_key *from, const struct flow_key *to)
{
	return (__u64)(__u32)~from->saddr + to->saddr + (__u32)~from->daddr + to->daddr;
}

/* port_delta returns what the change of both ports adds, not folded. */
static __always_inline __u64 port_delta(const struct flow_key *from, const struct flow_key *to)
{
	return (__u64)(__u16)~from->sport + to->sport + (__u16)~from->dport + to->dport;
}

/* csum_update returns the checksum old after delta. */
static __always_inline __u16 csum_update(__u16 old, __u16 delta)
{
	__u32 sum = (__u16)~old + (__u32)delta;

	return ~(__u16)(sum + FAULT(11, sum >> 16, 0));
}

/* update_udp leaves "no checksum" as it is, and never makes it (RFC 768). */
static __always_inline void update_udp(struct udphdr *udp, __u16 delta)
{
	__u16 check;

	if (!udp->check && FAULT(29, true, false))
		return;
	check = csum_update(udp->check, delta);
	udp->check = check ? check : FAULT(30, 0xffff, 0);
}

/* csum_words adds n words to sum, not folded. n is a constant. */
static __always_inline __u32 csum_words(const void *start, int n, __u32 sum)
{
	const __u16 *words = start;

#pragma unroll
	for (int i = 0; i < n; i++)
		sum += words[i];
	return sum;
}
