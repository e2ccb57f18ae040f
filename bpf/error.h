/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * error.h - an ICMP error leaves in the other family than it came in: rule 13.7.
 *
 * Its own header, that of ICMP and that of the quoted packet are new; what
 * follows stays where it is. ICMP's checksum is brought up to date by all that,
 * and by the addresses, which only ICMPv6 sums up.
 */
#pragma once

#include "cross.h"

/* struct near_error and far_error are the headers of an error in one family and in the other. */
struct near_error {
	ip_header_t ip;
	struct icmp_error icmp;
	ip_header_t quoted;
	struct udphdr ports; /* TCP's are at the same place */
};

struct far_error {
	far_header_t ip;
	struct icmp_error icmp;
	far_header_t quoted;
};

#define NEAR_LEN (sizeof(struct near_error) - sizeof(struct udphdr))

/*
 * change_error makes of the error at was, whose TCP or UDP it rewrites, the
 * headers that it gets. It returns false if they have none in the other family.
 */
static __always_inline bool change_error(const struct packet *p, struct near_error *was,
					 const void *end, const struct flow *f,
					 struct far_error *is)
{
	struct quote *q = (void *)&was->icmp;
	__u16 old = was->icmp.checksum;
	__u32 len = sizeof(*is) + p->rest - (NEAR_LEN - sizeof(was->ip));
	__u64 sum;

	if (!far_icmp(&was->icmp, &is->icmp))
		return false;
	write_far(p, &is->ip, len, f, IPPROTO_FAR_ICMP, 0);
	write_quoted(&is->quoted, &was->quoted, f);
	sum = rewrite_l4(p, q, &was->ports, end, f, sent_addrs(q, f));
	was->icmp.checksum = 0;
	sum += (__u16)~fold(near_pseudo(p, &was->ip, csum_add(q, NEAR_LEN - sizeof(was->ip), 0)));
	sum += csum_add(&is->icmp, sizeof(is->icmp) + sizeof(is->quoted), 0);
	sum += far_pseudo(f, len - sizeof(is->ip));
	is->icmp.checksum = csum_update(old, FAULT(196, fold(sum), 0));
	return true;
}

/* cross_error is the end of follow_icmp for a flow whose packets leave in the other family. */
static __noinline int cross_error(struct packet *p)
{
	struct flow *f = find(p->key, &p->stamp);
	void *end = (void *)(long)p->ctx->data_end;
	struct near_error *was = (void *)(long)p->ctx->data + ETH_HLEN;
	struct far_error is, *to;
	void *data;

	if (!f)
		return DROP_FLOW_ENDED; /* just now */
	if ((void *)(was + 1) > end)
		return DROP_FAMILY; /* unreachable */
	if (!has_ports(proto_of(&was->quoted)) || !change_error(p, was, end, f, &is))
		return DROP_FAMILY;
	if (bpf_xdp_adjust_head(p->ctx, (int)NEAR_LEN - (int)sizeof(is)))
		return DROP_FAMILY; /* no room in front of it */
	data = (void *)(long)p->ctx->data;
	to = data + ETH_HLEN;
	if ((void *)(to + 1) > (void *)(long)p->ctx->data_end)
		return DROP_FAMILY; /* unreachable */
	*(__be16 *)(data + 12) = bpf_htons(FAR_KIND);
	COPY(to, &is, sizeof(is));
	return depart(p->ctx, data, f, stamp_at(f), p->stamp, p->total, &p->egress);
}
