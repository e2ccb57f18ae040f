/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sum.h - the checksum of a datagram that came without one: rule 13.4.
 *
 * It is the one that its sender might have computed. What translation adds to
 * that comes later, as to any other.
 */
#pragma once

#include "csum.h"
#include "table.h"

#define LONGEST_SUMMED 1500 /* bytes of a packet: what Ethernet carries */
#define CHUNK sizeof(((struct draft *)0)->chunk) /* bytes that are summed up at once */

/*
 * sum_bytes returns the folded sum of len bytes of a frame, from at on, which may
 * lie in any of its buffers; less than 0 if that is too long. Global, as locate is.
 */
__noinline int sum_bytes(struct xdp_md *ctx, __u32 at, __u32 len)
{
	struct draft *d = draft();
	__u32 sum = 0, n;

	if (!d)
		return -1; /* unreachable */
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < LONGEST_SUMMED / CHUNK + 1; i++) {
		__builtin_memset(d->chunk, 0, CHUNK);
		n = len < CHUNK ? len : CHUNK;
		if (!n)
			return fold(sum);
		barrier_var(n);
		n = ((n - 1) & (CHUNK - 1)) + 1; /* so that the verifier knows its bounds */
		if (bpf_xdp_load_bytes(ctx, at, d->chunk, n))
			return -1;
		sum = csum_add(d->chunk, CHUNK, sum);
		at += n;
		len -= n;
	}
	return len ? -1 : fold(sum);
}

/* fill_udp gives a datagram of IPv4 a checksum if it has none; false if it is too long. */
static __always_inline bool fill_udp(const struct packet *p, struct udphdr *udp)
{
	__u32 len = bpf_ntohs(udp->len);
	int sum;

	if (udp->check)
		return true;
	sum = sum_bytes(p->ctx, ETH_HLEN + sizeof(ip_header_t), FAULT(276, len, p->rest));
	if (sum < 0)
		return false;
	sum += bpf_htons(IPPROTO_UDP) + bpf_htons(len);
	udp->check = some_sum(~fold(csum_add(&p->key->saddr, 32, sum)));
	return true;
}
