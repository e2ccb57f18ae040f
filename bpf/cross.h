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

/* length_before returns the length of the headers before TCP or UDP. */
static __always_inline int length_before(const struct packet *p)
{
	return p->total - p->rest;
}

/* rewrite_ports gives TCP or UDP what f's packets leave with; false if it is not there. */
static __always_inline bool rewrite_ports(const struct packet *p, struct udphdr *udp,
					  const struct flow *f)
{
	struct tcphdr *tcp = (void *)udp;

	if (p->key->proto == IPPROTO_UDP) {
		update_udp(udp, READ_ONCE(f->l4_delta));
	} else {
		if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end)
			return false;
		translate_tcp(tcp, f);
	}
	COPY(udp, &f->sport, 4);
	return true;
}

/* cross is forward for a flow whose packets leave in the other family. */
static __noinline int cross(struct packet *p, const struct flow *f, const struct stamp *at)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	struct udphdr *udp = at_l4(p, ip);
	__u32 len = sizeof(far_header_t) + p->rest;
	far_header_t *far;

	if ((void *)(ip + 1) > end || (void *)(udp + 1) > end)
		return DROP_MALFORMED; /* unreachable */
	if (FAULT(193, p->first, false) || (p->key->proto == IPPROTO_UDP && !may_cross(udp)))
		return DROP_FAMILY;
	if (len > FAULT(194, f->far_mtu, -1U))
		return refuse_big(p, ip, far_mtu(f));
	if (!rewrite_ports(p, udp, f))
		return DROP_MALFORMED; /* unreachable */
	if (bpf_xdp_adjust_head(p->ctx, length_before(p) - (int)sizeof(far_header_t)))
		return DROP_FAMILY; /* no room in front of it */
	data = (void *)(long)p->ctx->data;
	far = data + ETH_HLEN;
	if ((void *)(far + 1) > (void *)(long)p->ctx->data_end)
		return DROP_MALFORMED; /* unreachable */
	*(__be16 *)(data + 12) = bpf_htons(FAR_KIND);
	write_far(p, far, len, f, p->key->proto);
	return depart(p->ctx, data, f, at, p->stamp, p->total, &p->egress);
}
