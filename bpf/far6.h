/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* far6.h - what becomes of IPv4 that leaves as IPv6: rule 13. */
#pragma once

#include "sum.h"
#include "unreachable.h"

#define IPPROTO_FAR_ICMP 58
#define FAR_KIND ETH_P_IPV6

/* part_len returns the length of what a fragment has besides its header. */
static __always_inline __u32 part_len(__u16 part)
{
	return part ? sizeof(struct extension) : 0;
}

/* far_header_t is the header that a packet has in the other family. */
typedef struct ip_header far_header_t;

/* far_mtu is what a sender is told, whose packets grow on their way to f's. */
static __always_inline __u16 far_mtu(const struct flow *f, __u16 part)
{
	return f->far_mtu - FAULT(187, FAR_GROWTH, 0) - FAULT(270, part_len(part), 0);
}

/* part_of returns a fragment's offset in bytes, and 1 if more follow: what IPv6 says of it. */
static __always_inline __u16 part_of(const struct packet *p, const ip_header_t *ip)
{
	__u16 field = bpf_ntohs(ip->frag_off);

	(void)p;
	return FAULT(193, (field & FAULT(271, IP_OFFSET, 0)) << 3 | !!(field & IP_MORE), 0);
}

/* may_cross says that a datagram has the checksum that IPv6 asks for, or can get it. */
static __always_inline bool may_cross(const struct packet *p, const struct udphdr *udp)
{
	if (p->key->proto != IPPROTO_UDP || udp->check)
		return true;
	return FAULT(188, !p->first, true) && p->total <= FAULT(277, LONGEST_SUMMED, -1U);
}

/* length_before returns the length of the headers before what p's headers are replaced with. */
static __always_inline __u32 length_before(const struct packet *p)
{
	(void)p;
	return sizeof(ip_header_t);
}

/*
 * write_far writes the header that p gets, in a packet of this protocol and of
 * len bytes (RFC 7915, 4.1); part is part_of(p), or 0 if it is to be whole.
 */
static __always_inline void write_far(const struct packet *p, far_header_t *ip, __u32 len,
				      const struct flow *f, __u8 proto, __u16 part)
{
	*(__u32 *)ip->begin = bpf_htonl(6U << 28 | (__u32)FAULT(189, p->tos, 0) << 20);
	ip->payload = bpf_htons(len - sizeof(*ip));
	ip->next = part ? NEXT_FRAGMENT : proto;
	ip->hops = p->ttl - FAULT(190, 1, 0);
	COPY(&ip->saddr, &f->saddr, 32);
}

/* write_part writes what a fragment has behind its header; false if that is not there. */
static __always_inline bool write_part(const struct packet *p, far_header_t *ip, const void *end,
				       __u16 part)
{
	struct extension *e = (void *)(ip + 1);

	if (!part)
		return true;
	if ((void *)(e + 1) > end)
		return false;
	*e = (struct extension){
		.next = p->key->proto,
		.part = bpf_htons(part),
		.id = bpf_htonl(bpf_ntohs(FAULT(272, p->id, 0))),
	};
	return true;
}

/* Types of ICMPv6, and codes of destination unreachable (RFC 4443). */
#define FAR_UNREACHABLE 1
#define FAR_TOO_BIG 2
#define FAR_TIME_EXCEEDED 3
#define FAR_PARAMETER_PROBLEM 4
#define FAR_NEXT_HEADER 1 /* parameter problem: unknown */
#define FAR_NO_ROUTE 0
#define FAR_PROHIBITED 1
#define FAR_NO_PORT 4
#define FAR_LEAST_MTU 1280

/* Codes of destination unreachable (RFC 1812), as bits: no host or net, and prohibited. */
#define NOWHERE_CODES (1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12)
#define PROHIBITED_CODES (1 << 9 | 1 << 10 | 1 << 13 | 1 << 15)

/* far_told returns the MTU that the sender of IPv6 is told, of what its router of IPv4 said. */
static __always_inline __u32 far_told(__u32 mtu)
{
	mtu += FAULT(197, FAR_GROWTH, 0);
	return mtu > FAR_LEAST_MTU ? mtu : FAR_LEAST_MTU;
}

/* far_unreachable is far_icmp for destination unreachable. */
static __always_inline bool far_unreachable(const struct icmp_error *was, struct icmp_error *is)
{
	__u32 bit = was->code < 16 ? 1 << was->code : 0;

	is->type = FAR_UNREACHABLE;
	if (was->code == ICMP_NO_PROTOCOL) {
		is->type = FAR_PARAMETER_PROBLEM;
		is->code = FAR_NEXT_HEADER;
		is->rest = bpf_htonl(offsetof(far_header_t, next));
		return true;
	}
	if (was->code == ICMP_TOO_BIG_CODE) {
		is->type = FAR_TOO_BIG;
		is->rest = bpf_htonl(far_told(bpf_ntohl(was->rest) & 0xffff));
		return true;
	}
	if (was->code == ICMP_PORT_UNREACHABLE)
		is->code = FAR_NO_PORT;
	else if (bit & PROHIBITED_CODES)
		is->code = FAR_PROHIBITED;
	else
		return bit & NOWHERE_CODES;
	return true;
}

/* far_place returns what in a header of IPv6 is what stands at this byte in IPv4; less than 0: nothing. */
static __always_inline int far_place(__u8 at)
{
	switch (at) {
	case offsetof(struct iphdr, tos):
	case 0: /* version */
		return at;
	case offsetof(struct iphdr, ttl):
		return offsetof(far_header_t, hops);
	case offsetof(struct iphdr, protocol):
		return offsetof(far_header_t, next);
	}
	if (at < 4)
		return offsetof(far_header_t, payload);
	if (at < offsetof(struct iphdr, saddr) || at >= sizeof(struct iphdr))
		return -1;
	return at < offsetof(struct iphdr, daddr) ? offsetof(far_header_t, saddr)
						  : offsetof(far_header_t, daddr);
}

/* far_problem is far_icmp for a parameter problem: one at a byte, or a bad length. */
static __always_inline bool far_problem(const struct icmp_error *was, struct icmp_error *is)
{
	__u8 at = bpf_ntohl(was->rest) >> 24;
	int place = FAULT(278, far_place(at), at);

	*is = (struct icmp_error){.type = FAR_PARAMETER_PROBLEM, .rest = bpf_htonl(place)};
	return FAULT(198, place >= 0 && (was->code == 0 || was->code == 2), true);
}

/* far_icmp makes of an error's header that in ICMPv6 (RFC 7915, 4.2); false if there is none. */
static __always_inline bool far_icmp(const struct icmp_error *was, struct icmp_error *is)
{
	*is = (struct icmp_error){.type = FAR_TIME_EXCEEDED, .code = was->code};
	if (was->type == ICMP_TIME_EXCEEDED)
		return true;
	is->code = FAR_NO_ROUTE;
	return was->type == ICMP_UNREACHABLE ? far_unreachable(was, is) : far_problem(was, is);
}

/* write_quoted writes the header that a quoted packet was sent with; is shows how it came here. */
static __always_inline void write_quoted(far_header_t *to, const ip_header_t *is,
					 const struct flow *f)
{
	*(__u32 *)to->begin = bpf_htonl(6U << 28 | (__u32)is->tos << 20);
	to->payload = bpf_htons(total_of(is) - sizeof(*is));
	to->next = is->protocol;
	to->hops = is->ttl;
	to->saddr = f->daddr;
	to->daddr = f->saddr;
}

/* far_pseudo returns what ICMPv6 sums up besides itself; near_pseudo: ICMP does not. */
static __always_inline __u32 near_pseudo(const struct packet *p, const ip_header_t *ip, __u32 sum)
{
	(void)p;
	(void)ip;
	return sum;
}

static __always_inline __u32 far_pseudo(const struct flow *f, __u16 len)
{
	return csum_add(&f->saddr, 32, bpf_htons(IPPROTO_FAR_ICMP) + bpf_htons(len));
}
