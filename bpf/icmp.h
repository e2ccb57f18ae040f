/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * icmp.h - errors about packets of a flow: rule 9.
 *
 * An error quotes the packet that it is about, as that left here. Who sent it
 * knows it with other addresses and ports, so quote and error are translated
 * back. Its direction is that of the answers to the quoted packet.
 */
#pragma once

#include "echo.h"
#include "end.h"
#include "forward.h"
#include "open.h"

/* struct quote is an error with what it quotes, up to TCP or UDP. */
struct quote {
	struct icmp_error icmp;
	ip_header_t ip;
};

/* reaches says that the error at q goes on as far as at, by its packet's length. */
static __always_inline bool reaches(const struct packet *p, const struct quote *q, const void *at)
{
	return at - (const void *)q <= p->rest;
}

/* read_reversed reads the tuple of what would come back to a quoted packet. */
static __always_inline void read_reversed(struct flow_key *key, const ip_header_t *ip,
					  const struct udphdr *ports, __u8 proto)
{
	*key = (struct flow_key){
		.saddr = ip->daddr,
		.daddr = ip->saddr,
		.sport = ports->dest,
		.dport = ports->source,
		.proto = proto,
	};
}

/*
 * quoted_ports returns the ports that the error at ip quotes, UDP's or TCP's, if
 * it can be about a packet of a flow, else NULL. p gets its key of them, reversed.
 */
static __always_inline struct udphdr *quoted_ports(struct packet *p, const ip_header_t *ip,
						   struct quote *q, const void *end)
{
	struct udphdr *ports;
	__u8 proto;

	if (is_extended(p) || (void *)(q + 1) > end || !is_icmp_error(q->icmp.type))
		return NULL;
	ports = quoted_l4(&q->ip, end, &proto);
	if (!ports || (void *)(ports + 1) > end || FAULT(72, !reaches(p, q, ports + 1), false))
		return NULL;
	if (!has_ports(proto) || FAULT(73, !same_addr(&q->ip.saddr, &ip->daddr), false))
		return NULL;
	read_reversed(p->key, &q->ip, ports, proto);
	return ports;
}

/* is_hosts says that the host may have sent what p is about. Of UDP nobody can tell. */
static __always_inline bool is_hosts(const struct packet *p)
{
	return p->key->proto != IPPROTO_TCP || is_there(env_connection(p->ctx, p->key));
}

/* icmp_without_flow is step 2 of an error that belongs to no flow; to is its destination. */
static __always_inline int icmp_without_flow(const struct packet *p, const addr_t *to)
{
	struct service *s;
	__u32 row;

	s = find_service(p, &row);
	if (s && s->state == SERVICE_XDP && !(s->flags & SERVICE_LOCAL && is_hosts(p)))
		return FAULT(74, DROP_ICMP, PASS_ICMP);
	return at_vip(to, PASS_ICMP);
}

/* rewrite_udp and rewrite_tcp return what the change of a quoted checksum adds to ICMP's. */
static __always_inline __u64 rewrite_udp(struct udphdr *udp, __u16 delta)
{
	__u16 old = udp->check;

	update_udp(udp, delta);
	return old ? word_change(old, udp->check) : 0;
}

static __always_inline __u64 rewrite_tcp(const struct packet *p, const struct quote *q,
					 struct tcphdr *tcp, const void *end, __u16 delta)
{
	void *after = &tcp->check + 1;
	__u16 old;

	if (after > end || FAULT(75, !reaches(p, q, after), false))
		return 0;
	old = tcp->check;
	tcp->check = csum_update(old, delta);
	return word_change(old, tcp->check);
}

/*
 * rewrite_quote is step 4 for what is quoted: it left with another tuple than it
 * was sent with. It returns what that adds to ICMP's checksum.
 */
static __always_inline __u64 rewrite_quote(const struct packet *p, struct quote *q,
					   struct udphdr *l4, const void *end, const struct flow *f)
{
	__u64 addrs = addr_change(&q->ip.saddr, &f->daddr) + addr_change(&q->ip.daddr, &f->saddr);
	__u64 ports = word_change(l4->source, f->dport) + word_change(l4->dest, f->sport);
	__u64 sum = addrs + ports + update_quoted(&q->ip, addrs);
	__u16 delta = fold(addrs + ports);

	q->ip.saddr = f->daddr;
	q->ip.daddr = f->saddr;
	l4->source = f->dport;
	l4->dest = f->sport;
	if (p->key->proto == IPPROTO_UDP)
		sum += rewrite_udp(l4, delta);
	else
		sum += rewrite_tcp(p, q, (void *)l4, end, delta);
	return sum;
}

/* rewrite_error is step 4 for the error itself; it returns what that adds to ICMP's checksum. */
static __always_inline __u64 rewrite_error(ip_header_t *ip, const struct flow *f, __u8 dir)
{
	__u64 addrs = addr_change(&ip->daddr, &f->daddr);

	ip->daddr = f->daddr;
	if (dir == FAULT(77, DIR_REPLY, DIR_MAX)) {
		addrs += addr_change(&ip->saddr, &f->saddr);
		ip->saddr = f->saddr;
	}
	return pass_on(ip, addrs);
}

/* follow_icmp is rule 9. */
static __noinline int follow_icmp(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	struct quote *q = (void *)(ip + 1);
	struct udphdr *ports;
	struct flow *f;
	addr_t to;
	__u64 sum;

	if ((void *)(ip + 1) > end)
		return PASS_OTHER; /* unreachable */
	to = ip->daddr;
	ports = quoted_ports(p, ip, q, end);
	if (!ports)
		return answer_echo(p, &to);
	f = find(p->key, &p->stamp);
	if (!f || !counts(&p->when, f, p->stamp) || state_of(p->stamp) == FLOW_RESET)
		return icmp_without_flow(p, &to);
	if (p->ttl <= 1)
		return DROP_TTL;
	if (judge(p, f) != FIT)
		return FAULT(78, DROP_FLOW_ENDED, DROP_TTL);
	if (FAULT(94, is_robbed(p, f), false))
		return DROP_FLOW_ENDED;
	sum = rewrite_quote(p, q, ports, end, f) + rewrite_error(ip, f, dir_of(p->stamp));
	q->icmp.checksum = csum_update(q->icmp.checksum, FAULT(76, fold(sum), 0));
	return depart(p->ctx, data, f, stamp_at(f), p->stamp, &p->egress);
}
