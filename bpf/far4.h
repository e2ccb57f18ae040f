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
#define FAR_NO_PORT 3
#define FAR_TOO_BIG 4
#define FAR_PROHIBITED 10
#define FAR_TIME_EXCEEDED 11

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
		is->mtu = bpf_htonl(far_told(bpf_ntohl(was->mtu)));
		return true;
	case ICMP_TIME_EXCEEDED:
		is->type = FAR_TIME_EXCEEDED;
		is->code = was->code;
		return true;
	}
	return FAULT(198, false, true);
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
