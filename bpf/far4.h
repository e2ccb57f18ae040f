/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* far4.h - what becomes of IPv6 that leaves as IPv4: rule 13. */
#pragma once

#include "unreachable.h"

#define IPPROTO_FAR_ICMP IPPROTO_ICMP
#define FAR_KIND ETH_P_IP
#define FAR_DF 0x4000 /* don't fragment */
#define FAR_DF_ABOVE 1260 /* what a packet of IPv6 that every link takes becomes */

/* part_len: a fragment has its header's length. */
static __always_inline __u32 part_len(__u16 part)
{
	(void)part;
	return 0;
}

/* far_header_t is the header that a packet has in the other family. */
typedef struct iphdr far_header_t;

/* far_mtu is what a sender is told, whose packets shrink on their way to f's. */
static __always_inline __u16 far_mtu(const struct flow *f, __u16 part)
{
	__u32 mtu = f->far_mtu + FAULT(187, FAR_GROWTH, 0);

	(void)part; /* nobody is told of a fragment */

	return mtu > LEAST_MTU ? mtu : FAULT(191, LEAST_MTU, mtu);
}

/* part_of returns a fragment's offset in bytes, and 1 if more follow. */
static __always_inline __u16 part_of(const struct packet *p, const ip_header_t *ip)
{
	(void)ip;
	return p->part;
}

/* may_cross: extension headers in a datagram are not left behind, as they count in its offsets. */
static __always_inline bool may_cross(const struct packet *p, const struct udphdr *udp)
{
	(void)udp;
	return !p->first || FAULT(273, has_ports(p->says), true);
}

/* fill_udp: IPv4 asks for no checksum. */
static __always_inline bool fill_udp(const struct packet *p, struct udphdr *udp)
{
	(void)p;
	(void)udp;
	return true;
}

/* length_before returns the length of the headers that p does not keep. */
static __always_inline __u32 length_before(const struct packet *p)
{
	return p->l4;
}

/* set_part says what of a datagram of len bytes p is, and may become. */
static __always_inline void set_part(const struct packet *p, far_header_t *ip, __u32 len,
				     __u16 part)
{
	if (FAULT(193, part, 0)) {
		ip->id = bpf_htons(FAULT(272, bpf_ntohl(p->id), 0));
		ip->frag_off = bpf_htons(FAULT(271, part >> 3, 0) | (part & 1) << 13);
	} else if (len > FAULT(192, FAR_DF_ABOVE, LEAST_MTU)) {
		ip->frag_off = bpf_htons(FAR_DF);
	} else {
		ip->id = env_random();
	}
}

/*
 * write_far writes the header that p gets, in a packet of this protocol and of
 * len bytes (RFC 7915, 5.1); part is part_of(p), or 0 if it is to be whole.
 */
static __always_inline void write_far(const struct packet *p, far_header_t *ip, __u32 len,
				      const struct flow *f, __u8 proto, __u16 part)
{
	*ip = (far_header_t){
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tos = FAULT(189, p->tos, 0),
		.tot_len = bpf_htons(len),
		.ttl = p->ttl - FAULT(190, 1, 0),
		.protocol = proto,
		.saddr = f->saddr.word[3],
		.daddr = f->daddr.word[3],
	};
	set_part(p, ip, len, part);
	ip->check = ~fold(csum_add(ip, sizeof(*ip), 0));
}

/* write_part: a fragment has nothing more than its header. */
static __always_inline bool write_part(const struct packet *p, far_header_t *ip, const void *end,
				       __u16 part)
{
	(void)p;
	(void)ip;
	(void)end;
	(void)part;
	return true;
}

/* Types of ICMP, and codes of destination unreachable (RFC 792, RFC 1812). */
#define FAR_UNREACHABLE 3
#define FAR_NO_HOST 1
#define FAR_NO_PROTOCOL 2
#define FAR_NO_PORT 3
#define FAR_TOO_BIG 4
#define FAR_PROHIBITED 10
#define FAR_TIME_EXCEEDED 11
#define FAR_PARAMETER_PROBLEM 12

/* far_code returns what a code of destination unreachable becomes, or less than 0. */
static __always_inline int far_code(__u8 code)
{
	switch (code) {
	case 0: /* no route */
	case 2: /* beyond the source's scope */
	case 3: /* no such address */
		return FAR_NO_HOST;
	case 1: /* prohibited */
		return FAR_PROHIBITED;
	case ICMP_PORT_UNREACHABLE:
		return FAR_NO_PORT;
	}
	return -1;
}

/* far_told returns the MTU that the sender of IPv4 is told, of what its router of IPv6 said. */
static __always_inline __u32 far_told(__u32 mtu)
{
	if (mtu < LEAST_MTU)
		mtu = LEAST_MTU;
	if (mtu > 0xffff)
		mtu = 0xffff;
	return mtu - FAULT(197, FAR_GROWTH, 0);
}

/* far_place returns what in a header of IPv4 is what stands at this byte in IPv6; less than 0: nothing. */
static __always_inline int far_place(__u32 at)
{
	switch (at) {
	case 0: /* version */
	case 1: /* traffic class */
		return at;
	case offsetof(ip_header_t, payload):
	case offsetof(ip_header_t, payload) + 1:
		return offsetof(far_header_t, tot_len);
	case offsetof(ip_header_t, next):
		return offsetof(far_header_t, protocol);
	case offsetof(ip_header_t, hops):
		return offsetof(far_header_t, ttl);
	}
	if (at < offsetof(ip_header_t, saddr) || at >= sizeof(ip_header_t))
		return -1;
	return at < offsetof(ip_header_t, daddr) ? offsetof(far_header_t, saddr)
						 : offsetof(far_header_t, daddr);
}

/* far_problem is far_icmp for a parameter problem: one at a byte, or an unknown next header. */
static __always_inline bool far_problem(const struct icmp_error *was, struct icmp_error *is)
{
	__u32 at = bpf_ntohl(was->rest);
	int place = FAULT(278, far_place(at), at);

	if (was->code == 1) {
		is->code = FAR_NO_PROTOCOL;
		return true;
	}
	*is = (struct icmp_error){.type = FAR_PARAMETER_PROBLEM, .rest = bpf_htonl(place << 24)};
	return FAULT(198, place >= 0 && was->code == 0, true);
}

/* far_icmp makes of an error's header that in ICMP (RFC 7915, 5.2); false if there is none. */
static __always_inline bool far_icmp(const struct icmp_error *was, struct icmp_error *is)
{
	int code = far_code(was->code);

	*is = (struct icmp_error){.type = FAR_UNREACHABLE, .code = code};
	switch (was->type) {
	case ICMP_UNREACHABLE:
		return code >= 0;
	case ICMP_TOO_BIG_TYPE:
		is->code = FAR_TOO_BIG;
		is->rest = bpf_htonl(far_told(bpf_ntohl(was->rest)));
		return true;
	case ICMP_TIME_EXCEEDED:
		is->type = FAR_TIME_EXCEEDED;
		is->code = was->code;
		return true;
	}
	return far_problem(was, is);
}

/* write_quoted writes the header that a quoted packet was sent with; is shows how it came here. */
static __always_inline void write_quoted(far_header_t *to, const ip_header_t *is,
					 const struct flow *f)
{
	*to = (far_header_t){
		.version = 4,
		.ihl = sizeof(*to) / 4,
		.tos = is->begin[0] << 4 | is->begin[1] >> 4,
		.tot_len = bpf_htons(bpf_ntohs(is->payload) + sizeof(*to)),
		.frag_off = bpf_htons(FAR_DF),
		.ttl = is->hops,
		.protocol = is->next,
		.saddr = f->daddr.word[3],
		.daddr = f->saddr.word[3],
	};
	to->check = ~fold(csum_add(to, sizeof(*to), 0));
}

/* near_pseudo adds to a sum what ICMPv6 sums up besides itself; far_pseudo: ICMP does not. */
static __always_inline __u32 near_pseudo(const struct packet *p, const ip_header_t *ip, __u32 sum)
{
	return csum_add(&ip->saddr, 32, sum + bpf_htons(IPPROTO_OWN_ICMP) + bpf_htons(p->rest));
}

static __always_inline __u32 far_pseudo(const struct flow *f, __u16 len)
{
	(void)f;
	(void)len;
	return 0;
}
