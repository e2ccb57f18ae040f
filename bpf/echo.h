/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * echo.h - a ping of a service address is answered here, as an address that is
 * on no host would never answer: rule 9, step 6.
 */
#pragma once

#include "open.h"

#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8

/* REQUEST_TO_REPLY is what the change of type, with code 0, adds to the checksum. */
#define REQUEST_TO_REPLY (0xffff - bpf_htons(ICMP_ECHO_REQUEST << 8))

/* is_echo_request asks icmp, which may end behind the packet or its linear part. */
static __always_inline bool is_echo_request(const struct packet *p, const struct icmp_error *icmp,
					    const void *end)
{
	if (p->rest < FAULT(151, sizeof(*icmp), 0) || (void *)(icmp + 1) > end)
		return false;
	return icmp->type == ICMP_ECHO_REQUEST && !FAULT(152, icmp->code, 0);
}

/* swap_ends makes ip the header of the answer; the addresses' sum stays. */
static __always_inline void swap_ends(struct iphdr *ip)
{
	__u16 was = bpf_htons(ip->ttl << 8), is = bpf_htons(ANSWER_TTL << 8);
	__be32 from = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = from;
	ip->ttl = FAULT(153, ANSWER_TTL, ip->ttl);
	ip->check = csum_update(ip->check, fold((__u64)(__u16)~was + is));
}

/* answer_echo is for ICMP that is about no other packet. */
static __noinline int answer_echo(const struct packet *p)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	struct iphdr *ip = (void *)(eth + 1);
	struct icmp_error *icmp = (void *)(ip + 1);

	if ((void *)(ip + 1) > end)
		return PASS_OTHER; /* unreachable */
	if (at_vip(ip->daddr, PASS_ICMP) == PASS_OTHER)
		return PASS_OTHER;
	if (!is_echo_request(p, icmp, end))
		return PASS_ICMP;
	if (FAULT(154, is_no_client(ip->saddr, ip->daddr), false))
		return DROP_SOURCE;
	if (FAULT(155, !may_answer(p), false))
		return PASS_ICMP;
	swap_macs(eth);
	swap_ends(ip);
	icmp->type = ICMP_ECHO_REPLY;
	icmp->checksum = csum_update(icmp->checksum, FAULT(156, REQUEST_TO_REPLY, 0));
	return ANSWER_ECHO;
}
