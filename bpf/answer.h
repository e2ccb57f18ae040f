/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * answer.h - packets of our own, sent back to where a packet came from: rule 5.
 *
 * An answer tells a client at once what silence would tell it in minutes. Who
 * floods us gets no flood back: answers per second are limited.
 */
#pragma once

#include "csum.h"

#define IP_DF 0x4000 /* don't fragment */
#define ANSWER_TTL 64
#define RESET_LEN (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr))
#define QUOTE_LEN (sizeof(struct iphdr) + 8) /* what an ICMP error quotes (RFC 792) */
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

/* may_answer takes one of this second's answers, if one is left. */
static __always_inline bool may_answer(const struct packet *p)
{
	__u32 second = p->now / p->control->hz;
	__u32 zero = 0;
	struct replies *r = bpf_map_lookup_elem(&replies, &zero);

	if (!r)
		return false;
	if (r->second != FAULT(22, second, r->second)) {
		r->second = second;
		r->count = 0;
	}
	if (r->count >= p->control->reply_limit + FAULT(23, 0, 1))
		return false;
	r->count++;
	return true;
}

/* resize makes the frame len bytes long. Pointers into it are void after it. */
static __always_inline bool resize(struct xdp_md *ctx, int len)
{
	return !bpf_xdp_adjust_tail(ctx, len - (int)bpf_xdp_get_buff_len(ctx));
}

/* turn_round writes the Ethernet and IP headers of an answer of len bytes, headers included. */
static __always_inline void turn_round(const struct packet *p, struct ethhdr *eth, __u8 proto,
				       __u16 len)
{
	struct iphdr *ip = (void *)(eth + 1);
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	*ip = (struct iphdr){
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(len - ETH_HLEN),
		.frag_off = bpf_htons(IP_DF),
		.ttl = ANSWER_TTL,
		.protocol = proto,
		.saddr = p->key.daddr,
		.daddr = p->key.saddr,
	};
	ip->check = ~fold(csum_words(ip, sizeof(*ip) / 2, 0));
}

/* reset_of returns the TCP header that resets the sender of tcp (RFC 9293, 3.10.7.1). */
static __always_inline struct tcphdr reset_of(const struct packet *p, const struct tcphdr *tcp)
{
	struct tcphdr reset = {
		.source = tcp->dest,
		.dest = tcp->source,
		.doff = sizeof(reset) / 4,
		.rst = 1,
	};
	__u32 rest = FAULT(24, p->rest, bpf_xdp_get_buff_len(p->ctx) - ETH_HLEN - 20);

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
	struct tcphdr *tcp = (void *)eth + ETH_HLEN + sizeof(struct iphdr);
	struct tcphdr reset;
	__u32 sum;

	if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end || !may_answer(p))
		return DROP_REPLY_LIMIT;
	reset = reset_of(p, tcp);
	if (!resize(p->ctx, RESET_LEN))
		return DROP_REPLY_LIMIT;
	eth = (void *)(long)p->ctx->data;
	tcp = (void *)eth + ETH_HLEN + sizeof(struct iphdr);
	if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end)
		return DROP_REPLY_LIMIT;
	turn_round(p, eth, IPPROTO_TCP, RESET_LEN);
	sum = csum_words(&p->key.saddr, 4, bpf_htons(IPPROTO_TCP) + bpf_htons(sizeof(reset)));
	reset.check = ~fold(csum_words(&reset, sizeof(reset) / 2, sum));
	*tcp = reset;
	return ANSWER_RESET;
}

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

/* answer_no_backend tells a client that would make a flow that there is nobody to serve it. */
static __always_inline int answer_no_backend(const struct packet *p)
{
	int v;

	if (p->key.proto == IPPROTO_UDP)
		return answer_unreachable(p);
	v = answer_reset(p);
	return v == DROP_REPLY_LIMIT ? DROP_NO_BACKEND : v;
}
