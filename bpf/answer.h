/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * answer.h - packets of our own, sent back to where a packet came from: rule 5.
 *
 * An answer tells a client at once what silence would tell it in minutes. Who
 * floods us gets no flood back: answers per second are limited.
 */
#pragma once

#include "family.h"

/* take_answer takes one of this second's answers, if there were fewer than most. */
static __always_inline bool take_answer(const struct packet *p, __u32 most)
{
	__u32 second = p->when.now / p->control->hz;
	__u32 zero = 0;
	struct replies *r = bpf_map_lookup_elem(&replies, &zero), is;
	bool may;

	if (!r)
		return false;
	is = *r;
	if (is.second != FAULT(22, second, is.second))
		is = (struct replies){.second = second};
	may = is.count < most + FAULT(23, 0, 1);
	is.count += may;
	if (FAULT(266, !dry_run, true))
		*r = is;
	return may;
}

/* may_answer takes an answer that the sender needs. */
static __always_inline bool may_answer(const struct packet *p)
{
	return take_answer(p, p->control->reply_limit);
}

/* may_echo takes an answer to a ping, which must not use up all of them. */
static __always_inline bool may_echo(const struct packet *p)
{
	__u32 limit = p->control->reply_limit;

	return take_answer(p, FAULT(157, limit / 2 + (limit & 1), limit));
}

/* resize makes the frame len bytes long. Pointers into it are void after it. */
static __always_inline bool resize(struct xdp_md *ctx, int len)
{
	return !bpf_xdp_adjust_tail(ctx, len - (int)bpf_xdp_get_buff_len(ctx));
}

/* swap_macs sends a frame back to its sender. */
static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u8 mac[ETH_ALEN];

	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
}

/* turn_round writes the Ethernet and IP headers of an answer of len bytes, headers included. */
static __always_inline void turn_round(const struct packet *p, struct ethhdr *eth, __u8 proto,
				       __u16 len)
{
	swap_macs(eth);
	write_ip(p, (void *)(eth + 1), proto, len - ETH_HLEN);
}
