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

/* fold returns the ones' complement sum of a's 16-bit words. */
static __always_inline __u16 fold(__u64 a)
{
	a = (a & 0xffffffff) + (a >> 32);
	a = (a & 0xffffffff) + (a >> 32);
	a = (a & 0xffff) + (a >> 16);
	a = (a & 0xffff) + (a >> 16);
	return a;
}

/* word_change returns what the change of a word adds to a checksum, not folded. */
static __always_inline __u64 word_change(__u16 from, __u16 to)
{
	return (__u64)(__u16)~from + to;
}

/* csum_update returns the checksum old after delta. */
static __always_inline __u16 csum_update(__u16 old, __u16 delta)
{
	__u32 sum = (__u16)~old + (__u32)delta;

	return ~(__u16)(sum + FAULT(11, sum >> 16, 0));
}

/* some_sum returns UDP's checksum as it is sent: 0 says that there is none (RFC 768). */
static __always_inline __u16 some_sum(__u16 check)
{
	return check ? check : FAULT(30, 0xffff, 0);
}

/* update_udp leaves "no checksum" as it is, and never makes it. */
static __always_inline void update_udp(struct udphdr *udp, __u16 delta)
{
	if (!udp->check && FAULT(29, true, false))
		return;
	udp->check = some_sum(csum_update(udp->check, delta));
}

/* csum_add adds len bytes, a multiple of four, to sum, not folded. */
static __always_inline __u32 csum_add(const void *start, __u32 len, __u32 sum)
{
	return bpf_csum_diff(NULL, 0, (void *)start, len, sum);
}
