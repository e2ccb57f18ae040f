/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* forward.h - a packet leaves as its flow's entry says: rule 4. */
#pragma once

#include "count.h"
#include "csum.h"
#include "unreachable.h"

static __always_inline void translate_tcp(struct tcphdr *tcp, const struct flow *f)
{
	tcp->check = csum_update(tcp->check, READ_ONCE(f->l4_delta));
}

/*
 * depart sends the packet, at data, on by f's hop. It came with this total
 * length; 0 says that its header still has that. If f is in the table, at is
 * where its stamp is: another CPU may have given its place away while it was
 * read.
 */
static __always_inline int depart(struct xdp_md *ctx, void *data, const struct flow *f,
				  const struct stamp *at, struct stamp was, __u32 total,
				  __u32 *egress)
{
	ip_header_t *ip = data + ETH_HLEN;
	__u32 ifindex = READ_ONCE(f->hop.ifindex);
	__u32 backend = READ_ONCE(f->backend);
	__u16 flags = READ_ONCE(f->hop.flags);

	COPY(data, &f->hop, 12);
	barrier();
	if (at && unlikely(!is_still(at, was)))
		return DROP_FLOW_ENDED;
	*egress = ifindex;
	count_packet(backend, dir_of(was), total ? total : total_of(ip));
	if (flags & DEVICE_TX && ifindex == ctx->ingress_ifindex)
		return FORWARD_TX;
	return FORWARD_REDIRECT;
}

/* leave rewrites what TCP and UDP, whose header is at l4, have in common, and departs. */
static __always_inline int leave(struct xdp_md *ctx, void *data, void *l4, const struct flow *f,
				 const struct stamp *at, struct stamp was, __u32 *egress)
{
	COPY(l4, &f->sport, 4);
	translate_ip(data + ETH_HLEN, f);
	return depart(ctx, data, f, at, was, 0, egress);
}

/* is_too_big says that a packet of this total length does not leave by f. */
static __always_inline bool is_too_big(const struct flow *f, __u32 total)
{
	return total > FAULT(69, READ_ONCE(f->hop.mtu), -1U);
}

/* refuse_big is for a packet that is too big for this MTU, of which ip is the header. */
static __always_inline int refuse_big(const struct packet *p, const ip_header_t *ip, __u16 mtu)
{
	if (may_split(ip) || !answer_icmp(p, ICMP_TOO_BIG_TYPE, ICMP_TOO_BIG_CODE, mtu))
		return DROP_TOO_BIG;
	return ANSWER_TOO_BIG;
}

#ifdef WIDE
#include "cross.h"
#else
/* cross and cross_later are for who knows both families. */
static __always_inline int cross(struct packet *p, const struct flow *f, const struct stamp *at)
{
	(void)p;
	(void)f;
	(void)at;
	return DROP_FAMILY;
}

static __always_inline int cross_later(struct packet *p, const struct flow *f)
{
	(void)p;
	(void)f;
	return DROP_FAMILY;
}
#endif

/*
 * forward rewrites the packet by f, whose stamp is p's, and is at unless f is no
 * entry yet. The packet's headers are there: it is not bad.
 */
static __noinline int forward(struct packet *p, const struct flow *f, const struct stamp *at)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	struct udphdr *udp = at_l4(p, ip);
	struct tcphdr *tcp = (void *)udp;

	if ((void *)(ip + 1) > end || (void *)(udp + 1) > end)
		return DROP_MALFORMED; /* unreachable */
	if (unlikely(is_too_big(f, p->total)))
		return is_mixed(f) ? cross(p, f, at) : refuse_big(p, ip, f->hop.mtu);
	if (p->key->proto == IPPROTO_UDP) {
		update_udp(udp, READ_ONCE(f->l4_delta));
	} else {
		if ((void *)(tcp + 1) > end)
			return DROP_MALFORMED; /* unreachable */
		translate_tcp(tcp, f);
	}
	return leave(p->ctx, data, udp, f, at, p->stamp, &p->egress);
}
