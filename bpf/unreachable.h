/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* unreachable.h - ICMP port unreachable (RFC 792) as the answer to a datagram: rule 5. */
#pragma once

#include "answer.h"

#define QUOTE_LEN (sizeof(struct iphdr) + 8) /* of the datagram */
#define UNREACHABLE_LEN (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct icmp_error) + QUOTE_LEN)

#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3

/* struct icmp_error is linux/icmp.h's icmphdr, which comes with half of libc. */
struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__u32 unused;
};

#define GROWTH ((int)(sizeof(struct iphdr) + sizeof(struct icmp_error)))

/*
 * answer_unreachable returns ANSWER_UNREACHABLE or DROP_NO_BACKEND. The new
 * headers go in front of the datagram's, where there is always room; behind it
 * there may be none.
 */
static __noinline int answer_unreachable(const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct icmp_error icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH};
	struct icmp_error *to;
	struct ethhdr old;

	if ((void *)(eth + 1) > (void *)(long)p->ctx->data_end || !may_answer(p))
		return DROP_NO_BACKEND;
	old = *eth;
	if (bpf_xdp_adjust_head(p->ctx, -GROWTH) || !resize(p->ctx, UNREACHABLE_LEN))
		return DROP_NO_BACKEND;
	eth = (void *)(long)p->ctx->data;
	if ((void *)eth + UNREACHABLE_LEN > (void *)(long)p->ctx->data_end)
		return DROP_NO_BACKEND;
	*eth = old;
	turn_round(p, eth, IPPROTO_ICMP, UNREACHABLE_LEN);
	to = (void *)(eth + 1) + sizeof(struct iphdr);
	icmp.checksum =
		~fold(csum_words(to + 1, QUOTE_LEN / 2, csum_words(&icmp, sizeof(icmp) / 2, 0)));
	*to = icmp;
	return ANSWER_UNREACHABLE;
}
