/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * icmp.h - errors about packets of a flow: rule 9.
 *
 * An error quotes the packet that it is about, as that left here. Who sent it
 * knows it with other addresses and ports, so quote and error are translated
 * back. Its direction is that of the answers to the quoted packet.
 */
#pragma once

#include "end.h"
#include "forward.h"
#include "open.h"

#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

/* struct quote is an error with the least that it must quote. */
struct quote {
	struct icmp_error icmp;
	struct iphdr ip;
	struct udphdr ports; /* TCP's are at the same place */
};

/* quote_of returns the error at ip if it can be about a packet of a flow, else NULL. */
static __always_inline struct quote *quote_of(const struct packet *p, const struct iphdr *ip,
					      const void *end)
{
	struct quote *q = (void *)(ip + 1);

	if (p->rest < FAULT(72, sizeof(*q), 0) || (void *)(q + 1) > end)
		return NULL;
	if (q->icmp.type != ICMP_DEST_UNREACH && q->icmp.type != ICMP_TIME_EXCEEDED &&
	    q->icmp.type != ICMP_PARAMETER_PROBLEM)
		return NULL;
	if (*(__u8 *)&q->ip != IP_PLAIN || q->ip.frag_off & bpf_htons(IP_OFFSET))
		return NULL;
	if (q->ip.protocol != IPPROTO_TCP && q->ip.protocol != IPPROTO_UDP)
		return NULL;
	return q->ip.saddr == FAULT(73, ip->daddr, q->ip.saddr) ? q : NULL;
}

/* icmp_without_flow is step 2 of an error that belongs to no flow; to is its destination. */
static __always_inline int icmp_without_flow(const struct packet *p, __be32 to)
{
	struct service *s;
	__u32 row;

	s = find_service(p, &row);
	if (s && s->state == SERVICE_XDP &&
	    !(s->flags & SERVICE_LOCAL && env_has_connection(p->ctx, &p->key)))
		return FAULT(74, DROP_ICMP, PASS_ICMP);
	return at_vip(to, PASS_ICMP);
}

/* rewrite_udp and rewrite_tcp return what the change of a quoted checksum adds to ICMP's. */
static __always_inline __u64 rewrite_udp(struct udphdr *udp, __u16 delta)
{
	__u16 old = udp->check;

	update_udp(udp, delta);
	return old ? (__u64)(__u16)~old + udp->check : 0;
}

static __always_inline __u64 rewrite_tcp(const struct packet *p, struct tcphdr *tcp,
					 const void *end, __u16 delta)
{
	__u32 before = sizeof(struct icmp_error) + sizeof(struct iphdr);
	__u32 held = offsetof(struct tcphdr, check) + sizeof(tcp->check);
	__u16 old;

	if (p->rest < before + FAULT(75, held, 0) || (void *)tcp + held > end)
		return 0;
	old = tcp->check;
	tcp->check = csum_update(old, delta);
	return (__u64)(__u16)~old + tcp->check;
}

/* rewrite_quote is step 4 for what is quoted: it left with another tuple than it was sent with. */
static __always_inline void rewrite_quote(const struct packet *p, struct quote *q, const void *end,
					  const struct flow *f)
{
	struct flow_key from = reversed(&p->key);
	struct flow_key to = twin_key(f, p->key.proto);
	__u64 addrs = addr_delta(&from, &to), ports = port_delta(&from, &to);
	__u16 delta = fold(addrs + ports);
	__u16 old = q->ip.check;
	__u64 sum = addrs + ports;

	q->ip.saddr = to.saddr;
	q->ip.daddr = to.daddr;
	q->ip.check = csum_update(old, fold(addrs));
	q->ports.source = to.sport;
	q->ports.dest = to.dport;
	sum += (__u64)(__u16)~old + q->ip.check;
	if (p->key.proto == IPPROTO_UDP)
		sum += rewrite_udp(&q->ports, delta);
	else
		sum += rewrite_tcp(p, (void *)&q->ports, end, delta);
	q->icmp.checksum = csum_update(q->icmp.checksum, FAULT(76, fold(sum), 0));
}

/* rewrite_error is step 4 for the error itself. */
static __always_inline void rewrite_error(struct iphdr *ip, const struct flow *f, __u8 dir)
{
	struct flow_key from = {.saddr = ip->saddr, .daddr = ip->daddr};
	struct flow_key to = {.saddr = ip->saddr, .daddr = f->daddr};

	if (dir == FAULT(77, DIR_REPLY, DIR_MAX))
		to.saddr = f->saddr;
	ip->saddr = to.saddr;
	ip->daddr = to.daddr;
	ip->ttl--;
	ip->check = csum_update(ip->check, fold(addr_delta(&from, &to) + TTL_DELTA));
}

/* follow_icmp is rule 9. */
static __noinline int follow_icmp(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct flow_key quoted = {};
	struct quote *q;
	struct flow *f;

	if ((void *)(ip + 1) > end)
		return PASS_OTHER; /* unreachable */
	q = quote_of(p, ip, end);
	if (!q)
		return at_vip(ip->daddr, PASS_ICMP);
	read_key(&quoted, &q->ip, &q->ports);
	p->key = reversed(&quoted);
	f = find(&p->key, &p->stamp);
	if (!f || !counts(&p->when, f, p->stamp) || state_of(p->stamp) == FLOW_RESET)
		return icmp_without_flow(p, ip->daddr);
	if (p->ttl <= 1)
		return DROP_TTL;
	if (judge(p, f) != FIT)
		return FAULT(78, DROP_FLOW_ENDED, DROP_TTL);
	if (FAULT(94, is_robbed(p, f), false))
		return DROP_FLOW_ENDED;
	rewrite_quote(p, q, end, f);
	rewrite_error(ip, f, dir_of(p->stamp));
	return depart(p->ctx, data, f, stamp_at(f), p->stamp, &p->egress);
}
