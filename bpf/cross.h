/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * cross.h - a packet leaves in the other family than it came in: rule 13.
 *
 * What TCP and UDP sum up of the addresses is the same for an address of IPv4
 * and for that written as one of IPv6, whose further words add up to nothing. So
 * their checksums change as in any translation, and only the IP header is new.
 */
#pragma once

#ifdef IPV6
#include "far4.h"
#else
#include "far6.h"
#endif

/* rewrite_ports gives TCP or UDP what f's packets leave with; false if it is not there. */
static __always_inline bool rewrite_ports(const struct packet *p, struct udphdr *udp,
					  const struct flow *f)
{
	struct tcphdr *tcp = (void *)udp;

	if (p->key->proto == IPPROTO_UDP) {
		if (!fill_udp(p, udp))
			return false;
		update_udp(udp, READ_ONCE(f->l4_delta));
	} else {
		if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end)
			return false;
		translate_tcp(tcp, f);
	}
	COPY(udp, &f->sport, 4);
	return true;
}

/* far_len returns the length that p gets in the other family. */
static __always_inline __u32 far_len(const struct packet *p, __u16 part)
{
	return sizeof(far_header_t) + part_len(part) + p->total - length_before(p);
}

/* is_far_big says that p is too big to leave in the other family. */
static __always_inline bool is_far_big(const struct packet *p, const struct flow *f, __u16 part)
{
	return far_len(p, part) > FAULT(194, READ_ONCE(f->far_mtu), -1U);
}

/* replace_ip gives p, whose TCP or UDP is done, the header of the other family, and departs. */
static __always_inline int replace_ip(struct packet *p, const struct flow *f,
				      const struct stamp *at, __u16 part)
{
	int more = sizeof(far_header_t) + part_len(part) - length_before(p);
	far_header_t *far;
	void *data, *end;

	if (bpf_xdp_adjust_head(p->ctx, -more))
		return DROP_FAMILY; /* no room in front of it */
	data = (void *)(long)p->ctx->data;
	end = (void *)(long)p->ctx->data_end;
	far = data + ETH_HLEN;
	if ((void *)(far + 1) > end)
		return DROP_MALFORMED; /* unreachable */
	*(__be16 *)(data + 12) = bpf_htons(FAR_KIND);
	write_far(p, far, far_len(p, part), f, p->key->proto, part);
	if (!write_part(p, far, end, part))
		return DROP_MALFORMED; /* unreachable */
	return depart(p->ctx, data, f, at, p->stamp, p->total, &p->egress);
}

/* cross is forward for a flow whose packets leave in the other family. */
static __noinline int cross(struct packet *p, const struct flow *f, const struct stamp *at)
{
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = (void *)(long)p->ctx->data + ETH_HLEN;
	struct udphdr *udp = at_l4(p, ip);
	__u16 part;

	if ((void *)(ip + 1) > end || (void *)(udp + 1) > end)
		return DROP_MALFORMED; /* unreachable */
	if (!may_cross(p, udp))
		return DROP_FAMILY;
	part = part_of(p, ip);
	if (is_far_big(p, f, part))
		return refuse_big(p, ip, far_mtu(f, part));
	if (!rewrite_ports(p, udp, f))
		return DROP_MALFORMED; /* unreachable */
	return replace_ip(p, f, at, part);
}

/* cross_later is the end of forward_later for such a flow: a fragment that has no ports. */
static __noinline int cross_later(struct packet *p, const struct flow *f)
{
	ip_header_t *ip = (void *)(long)p->ctx->data + ETH_HLEN;
	__u16 part;

	if ((void *)(ip + 1) > (void *)(long)p->ctx->data_end)
		return DROP_FRAGMENT; /* unreachable */
	part = part_of(p, ip);
	if (FAULT(274, is_far_big(p, f, part), false))
		return DROP_TOO_BIG;
	return replace_ip(p, f, stamp_at(f), part);
}
