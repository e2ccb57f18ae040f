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

/* answer_unreachable returns ANSWER_UNREACHABLE or DROP_NO_BACKEND. */
static __noinline int answer_unreachable(const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct icmp_error icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH};
	__u32 quote[QUOTE_LEN / 4];
	struct icmp_error *to;

	if ((void *)(eth + 1) + QUOTE_LEN > (void *)(long)p->ctx->data_end || !may_answer(p))
		return DROP_NO_BACKEND;
	__builtin_memcpy(quote, eth + 1, QUOTE_LEN);
	if (!resize(p->ctx, UNREACHABLE_LEN))
		return DROP_NO_BACKEND;
	eth = (void *)(long)p->ctx->data;
	if ((void *)eth + UNREACHABLE_LEN > (void *)(long)p->ctx->data_end)
		return DROP_NO_BACKEND;
	turn_round(p, eth, IPPROTO_ICMP, UNREACHABLE_LEN);
	icmp.checksum =
		~fold(csum_words(quote, QUOTE_LEN / 2, csum_words(&icmp, sizeof(icmp) / 2, 0)));
	to = (void *)(eth + 1) + sizeof(struct iphdr);
	*to = icmp;
	__builtin_memcpy(to + 1, quote, QUOTE_LEN);
	return ANSWER_UNREACHABLE;
}
