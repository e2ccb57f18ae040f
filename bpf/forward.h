/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* forward.h - a packet leaves as its flow's entry says: rule 4. */
#pragma once

#include "count.h"
#include "csum.h"

/* translate_udp leaves "no checksum" as it is, and never makes it (RFC 768). */
static __always_inline void translate_udp(struct udphdr *udp, __u16 delta)
{
	__u16 check;

	if (!udp->check && FAULT(29, true, false))
		return;
	check = csum_update(udp->check, delta);
	udp->check = check ? check : FAULT(30, 0xffff, 0);
}

static __always_inline void translate_ip(struct iphdr *ip, const struct flow *f)
{
	COPY(&ip->saddr, &f->saddr, 8);
	ip->ttl -= FAULT(31, 1, 0);
	ip->check = csum_update(ip->check, READ_ONCE(f->ip_delta));
}

/* forward rewrites the packet by f. Its headers are there: it is not bad. */
static __always_inline int forward(struct packet *p, const struct flow *f)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end)
		return DROP_MALFORMED; /* unreachable */
	if (p->key.proto == IPPROTO_UDP) {
		translate_udp(udp, READ_ONCE(f->l4_delta));
	} else {
		if ((void *)(tcp + 1) > end)
			return DROP_MALFORMED; /* unreachable */
		tcp->check = csum_update(tcp->check, READ_ONCE(f->l4_delta));
	}
	COPY(&udp->source, &f->sport, 4);
	translate_ip(ip, f);
	COPY(data, &f->hop, 12);
	p->egress = READ_ONCE(f->hop.ifindex);
	count_packet(p, f);
	if (p->egress == p->ctx->ingress_ifindex && f->hop.flags & DEVICE_TX)
		return FORWARD_TX;
	return FORWARD_REDIRECT;
}
