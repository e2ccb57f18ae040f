/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* unreachable.h - ICMP errors (RFC 792, RFC 1191, RFC 4443) as answers: rule 5. */
#pragma once

#include "answer.h"

#define QUOTE_LEN (sizeof(ip_header_t) + 8) /* of the packet */
#define UNREACHABLE_LEN (ETH_HLEN + sizeof(ip_header_t) + sizeof(struct icmp_error) + QUOTE_LEN)

/* struct icmp_error is the header of an error. */
struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest; /* MTU of what is too big, where a parameter problem is, else 0 */
};

#define GROWTH ((int)(sizeof(ip_header_t) + sizeof(struct icmp_error)))

/*
 * answer_icmp answers with an ICMP error, and returns false if it cannot or must
 * not. The new headers go in front of the packet's, where there is always room;
 * behind it there may be none.
 */
static __noinline bool answer_icmp(const struct packet *p, __u8 type, __u8 code, __u16 mtu)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct icmp_error icmp = {.type = type, .code = code, .rest = bpf_htonl(mtu)};
	struct icmp_error *to;
	struct ethhdr old;
	__u32 sum;

	if ((void *)(eth + 1) > (void *)(long)p->ctx->data_end || is_extended(p) || !may_answer(p))
		return false;
	old = *eth;
	if (bpf_xdp_adjust_head(p->ctx, -GROWTH) || !resize(p->ctx, UNREACHABLE_LEN))
		return false;
	eth = (void *)(long)p->ctx->data;
	if ((void *)eth + UNREACHABLE_LEN > (void *)(long)p->ctx->data_end)
		return false;
	*eth = old;
	turn_round(p, eth, IPPROTO_OWN_ICMP, UNREACHABLE_LEN);
	to = (void *)(eth + 1) + sizeof(ip_header_t);
	sum = icmp_pseudo(p, sizeof(icmp) + QUOTE_LEN);
	sum = csum_add(&icmp, sizeof(icmp), sum);
	icmp.checksum = ~fold(csum_add(to + 1, QUOTE_LEN, sum));
	*to = icmp;
	return true;
}

/* answer_late tells a sender, in its packet's destination's name, that the TTL is used up. */
static __always_inline int answer_late(const struct packet *p)
{
	if (FAULT(200, !answer_icmp(p, ICMP_TIME_EXCEEDED, 0, 0), true))
		return DROP_TTL;
	return ANSWER_TIME_EXCEEDED;
}
