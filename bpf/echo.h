/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * echo.h - a ping of a service address is answered here, as an address that is
 * on no host would never answer: rule 9, step 6.
 */
#pragma once

#include "open.h"

/* is_echo_request asks icmp, which may end behind the packet or its linear part. */
static __always_inline bool is_echo_request(const struct packet *p, const struct icmp_error *icmp,
					    const void *end)
{
	if (is_extended(p) || p->rest < FAULT(151, sizeof(*icmp), 0) || (void *)(icmp + 1) > end)
		return false;
	return icmp->type == ICMP_ECHO_REQUEST && !FAULT(152, icmp->code, 0);
}

/* answer_echo is for ICMP that is about no other packet. */
static __noinline int answer_echo(const struct packet *p, const addr_t *to)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = (void *)(eth + 1);
	struct icmp_error *icmp = (void *)(ip + 1);
	__u16 was, is;
	addr_t from;

	if ((void *)(ip + 1) > end)
		return PASS_OTHER; /* unreachable */
	if (at_vip(to, PASS_ICMP) == PASS_OTHER)
		return PASS_OTHER;
	if (!is_echo_request(p, icmp, end))
		return PASS_ICMP;
	from = source_of(ip);
	if (FAULT(154, is_no_client(&from, to), false))
		return DROP_SOURCE;
	if (FAULT(155, !may_echo(p), false))
		return PASS_ICMP;
	swap_macs(eth);
	swap_ends(ip);
	was = bpf_htons(icmp->type << 8);
	is = bpf_htons(ICMP_ECHO_REPLY << 8);
	icmp->type = ICMP_ECHO_REPLY;
	icmp->checksum = csum_update(icmp->checksum, FAULT(156, fold(word_change(was, is)), 0));
	return ANSWER_ECHO;
}
