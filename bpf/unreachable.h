/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* unreachable.h - ICMP destination unreachable (RFC 792, RFC 1191) as an answer: rule 5. */
#pragma once

#include "answer.h"

#define QUOTE_LEN (sizeof(struct iphdr) + 8) /* of the packet */
#define UNREACHABLE_LEN (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct icmp_error) + QUOTE_LEN)

#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4

/* struct icmp_error is linux/icmp.h's icmphdr, which comes with half of libc. */
struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 unused;
	__be16 mtu; /* of ICMP_FRAG_NEEDED */
};

#define GROWTH ((int)(sizeof(struct iphdr) + sizeof(struct icmp_error)))

/*
 * answer_unreachable answers with ICMP destination unreachable, and returns
 * false if it cannot or must not. The new headers go in front of the packet's,
 * where there is always room; behind it there may be none.
 */
static __noinline bool answer_unreachable(const struct packet *p, __u8 code, __u16 mtu)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct icmp_error icmp = {.type = ICMP_DEST_UNREACH, .code = code, .mtu = bpf_htons(mtu)};
	struct icmp_error *to;
	struct ethhdr old;

	if ((void *)(eth + 1) > (void *)(long)p->ctx->data_end || !may_answer(p))
		return false;
	old = *eth;
	if (bpf_xdp_adjust_head(p->ctx, -GROWTH) || !resize(p->ctx, UNREACHABLE_LEN))
		return false;
	eth = (void *)(long)p->ctx->data;
	if ((void *)eth + UNREACHABLE_LEN > (void *)(long)p->ctx->data_end)
		return false;
	*eth = old;
	turn_round(p, eth, IPPROTO_ICMP, UNREACHABLE_LEN);
	to = (void *)(eth + 1) + sizeof(struct iphdr);
	icmp.checksum =
		~fold(csum_words(to + 1, QUOTE_LEN / 2, csum_words(&icmp, sizeof(icmp) / 2, 0)));
	*to = icmp;
	return true;
}
