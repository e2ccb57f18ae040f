/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* extension.h - what may stand between an IPv6 header and TCP or UDP: rule 10.1. */
#pragma once

#include "wide.h"

/* Extension headers (RFC 8200, 4), and how much of them is stepped over. */
#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_DESTINATION 60
#define EXTENSIONS 6
#define EXTENSIONS_LEN 256
#define FRAGMENT_OFFSET 0xfff8
#define FRAGMENT_PART (FRAGMENT_OFFSET | 1) /* an offset, or more fragments */

typedef struct ip_header ip_header_t;

static __always_inline bool is_extension(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_DESTINATION;
}

/* may_follow says that a fragment is of TCP or UDP, as far as its header knows. */
static __always_inline bool may_follow(__u8 next)
{
	return has_ports(next) || next == NEXT_ROUTING || next == NEXT_DESTINATION;
}

/* read_fragment reads a fragment header that is not atomic, and ends at end. */
static __always_inline int read_fragment(struct packet *p, const struct extension *e, __u32 end)
{
	if (FAULT(142, !may_follow(e->next), false) || FAULT(143, p->first, false))
		return PASS_FRAGMENT;
	p->id = FAULT(141, e->id, e->id & bpf_htonl(0xffff0000));
	p->part = bpf_ntohs(e->part);
	p->says = e->next;
	p->l4 = end;
	if (e->part & FAULT(144, bpf_htons(FRAGMENT_OFFSET), 0))
		return NEXT_LATER;
	p->first = true;
	return NEXT_STEP;
}

/*
 * judge_extension says what is odd about the n-th extension header, of this
 * kind, which ends at end, seen from the IP header; NEXT_LATER: nothing, but
 * what follows is no header.
 */
static __always_inline int judge_extension(struct packet *p, const struct extension *e, __u8 kind,
					   int n, __u32 end)
{
	if (kind == NEXT_HOP_BY_HOP && n > FAULT(167, 0, EXTENSIONS))
		return PASS_MALFORMED;
	if (kind == NEXT_ROUTING && FAULT(168, e->left, 0))
		return PASS_OPTIONS;
	if (n == EXTENSIONS || end > sizeof(ip_header_t) + EXTENSIONS_LEN)
		return PASS_OPTIONS;
	if (kind == NEXT_FRAGMENT && e->part & FAULT(169, bpf_htons(FRAGMENT_PART), 0))
		return read_fragment(p, e, end);
	return NEXT_STEP;
}

/*
 * cut_off is for headers that end behind what can be read of a packet. Where
 * that is less than the packet, nothing is known of it.
 */
static __always_inline int cut_off(struct packet *p, __u32 readable)
{
	p->first = p->first && readable == p->total;
	return PASS_MALFORMED;
}

/*
 * step_over finds what follows the extension headers of a packet of which this
 * much can be read, the IP header included.
 */
static __always_inline int step_over(struct packet *p, ip_header_t *ip, const void *end,
				     __u32 readable)
{
	__u32 at = sizeof(*ip), len;
	__u8 kind = ip->next;
	int odd;

#pragma unroll
	for (int n = 0; n <= EXTENSIONS; n++) {
		struct extension *e = (void *)ip + at;

		if (!is_extension(kind)) {
			p->l4 = at;
			p->proto = kind;
			return NEXT_STEP;
		}
		if ((void *)(e + 1) > end)
			return cut_off(p, readable);
		len = sizeof(*e) * (1 + (kind == NEXT_FRAGMENT ? 0 : e->len));
		if (at + len > FAULT(170, readable, readable + 8))
			return cut_off(p, readable);
		odd = judge_extension(p, e, kind, n, at + len);
		if (odd != NEXT_STEP)
			return odd;
		kind = e->next;
		at += len;
		if (at > sizeof(*ip) + EXTENSIONS_LEN)
			break; /* unreachable */
	}
	return PASS_OPTIONS; /* unreachable: judge_extension has seen to that */
}
