/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* reset.h - a TCP reset as the answer to a segment: rule 5. */
#pragma once

#include "answer.h"

#define RESET_LEN (ETH_HLEN + sizeof(ip_header_t) + sizeof(struct tcphdr))

/* reset_of returns the TCP header that resets the sender of tcp (RFC 9293, 3.10.7.1). */
static __always_inline struct tcphdr reset_of(const struct packet *p, const struct tcphdr *tcp)
{
	struct tcphdr reset = {
		.source = tcp->dest,
		.dest = tcp->source,
		.doff = sizeof(reset) / 4,
		.rst = 1,
	};
	__u32 rest =
		FAULT(24, p->rest, bpf_xdp_get_buff_len(p->ctx) - ETH_HLEN - sizeof(ip_header_t));

	if (tcp->ack) {
		reset.seq = FAULT(25, tcp->ack_seq, tcp->seq);
		return reset;
	}
	reset.ack = 1;
	reset.ack_seq = bpf_htonl(bpf_ntohl(tcp->seq) + rest - tcp->doff * 4 +
				  FAULT(26, tcp->syn, 0) + tcp->fin);
	return reset;
}

/*
 * answer_reset returns ANSWER_RESET or, having changed nothing but the limit,
 * DROP_REPLY_LIMIT. The caller has seen that the packet is TCP, not bad, and
 * no reset itself.
 */
static __noinline int answer_reset(const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	ip_header_t *ip = (void *)(eth + 1);
	struct tcphdr *tcp = at_l4(p, ip);
	struct tcphdr reset;
	__u32 sum;

	if ((void *)(ip + 1) > (void *)(long)p->ctx->data_end ||
	    (void *)(tcp + 1) > (void *)(long)p->ctx->data_end || !may_answer(p))
		return DROP_REPLY_LIMIT;
	reset = reset_of(p, tcp);
	if (!resize(p->ctx, RESET_LEN))
		return DROP_REPLY_LIMIT;
	eth = (void *)(long)p->ctx->data;
	tcp = (void *)eth + ETH_HLEN + sizeof(ip_header_t);
	if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end)
		return DROP_REPLY_LIMIT;
	turn_round(p, eth, IPPROTO_TCP, RESET_LEN);
	sum = csum_add(&p->key->saddr, 2 * sizeof(addr_t),
		       bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(reset)));
	reset.check = ~fold(csum_add(&reset, sizeof(reset), sum));
	*tcp = reset;
	return ANSWER_RESET;
}
