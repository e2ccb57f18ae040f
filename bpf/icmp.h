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

/* struct quote is an error with the least that it must quote. */
struct quote {
	struct icmp_error icmp;
	ip_header_t ip;
	struct udphdr ports; /* TCP's are at the same place */
};

/* quote_of returns the error at ip if it can be about a packet of a flow, else NULL. */
static __always_inline struct quote *quote_of(const struct packet *p, const ip_header_t *ip,
					      const void *end)
{
	struct quote *q = (void *)(ip + 1);
	addr_t from, to;

	if (is_extended(p) || p->rest < FAULT(72, sizeof(*q), 0) || (void *)(q + 1) > end)
		return NULL;
	if (!is_icmp_error(q->icmp.type) || !is_quote(&q->ip))
		return NULL;
	if (proto_of(&q->ip) != IPPROTO_TCP && proto_of(&q->ip) != IPPROTO_UDP)
		return NULL;
	from = source_of(&q->ip);
	to = destination_of(ip);
	return FAULT(73, same_addr(&from, &to), true) ? q : NULL;
}

/* icmp_without_flow is step 2 of an error that belongs to no flow; to is its destination. */
static __always_inline int icmp_without_flow(const struct packet *p, const addr_t *to)
{
	struct service *s;
	__u32 row;

	s = find_service(p, &row);
	if (s && s->state == SERVICE_XDP &&
	    !(s->flags & SERVICE_LOCAL && env_has_connection(p->ctx, p->key)))
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

static __always_inline __u64 rewrite_tcp(const struct packet *p, struct tcphdr *tcp,
					 const void *end, __u16 delta)
{
	__u32 before = sizeof(struct icmp_error) + sizeof(ip_header_t);
	__u32 held = offsetof(struct tcphdr, check) + sizeof(tcp->check);
	__u16 old;

	if (p->rest < before + FAULT(75, held, 0) || (void *)tcp + held > end)
		return 0;
	old = tcp->check;
	tcp->check = csum_update(old, delta);
	return word_change(old, tcp->check);
}

/* sent_addrs returns what the addresses that a quoted packet was sent with add to a checksum. */
static __always_inline __u64 sent_addrs(const struct quote *q, const struct flow *f)
{
	addr_t from = source_of(&q->ip), to = destination_of(&q->ip);

	return addr_change(&from, &f->daddr) + addr_change(&to, &f->saddr);
}

/*
 * rewrite_l4 is step 4 for the quoted TCP or UDP; addrs is what the new addresses
 * add. It returns what else it adds to ICMP's checksum.
 */
static __always_inline __u64 rewrite_l4(const struct packet *p, struct quote *q, const void *end,
					const struct flow *f, __u64 addrs)
{
	__u64 ports = word_change(q->ports.source, f->dport) + word_change(q->ports.dest, f->sport);
	__u16 delta = fold(addrs + ports);

	q->ports.source = f->dport;
	q->ports.dest = f->sport;
	if (p->key->proto == IPPROTO_UDP)
		return ports + rewrite_udp(&q->ports, delta);
	return ports + rewrite_tcp(p, (void *)&q->ports, end, delta);
}

/*
 * rewrite_quote is step 4 for what is quoted: it left with another tuple than it
 * was sent with. It returns what that adds to ICMP's checksum.
 */
static __always_inline __u64 rewrite_quote(const struct packet *p, struct quote *q, const void *end,
					   const struct flow *f)
{
	__u64 addrs = sent_addrs(q, f);
	__u64 sum = addrs + update_quoted(&q->ip, addrs);

	set_source(&q->ip, &f->daddr);
	set_destination(&q->ip, &f->saddr);
	return sum + rewrite_l4(p, q, end, f, addrs);
}

/* rewrite_error is step 4 for the error itself; it returns what that adds to ICMP's checksum. */
static __always_inline __u64 rewrite_error(ip_header_t *ip, const struct flow *f, __u8 dir)
{
	addr_t from = source_of(ip), to = destination_of(ip);
	__u64 addrs = addr_change(&to, &f->daddr);

	set_destination(ip, &f->daddr);
	if (dir == FAULT(77, DIR_REPLY, DIR_MAX)) {
		addrs += addr_change(&from, &f->saddr);
		set_source(ip, &f->saddr);
	}
	return pass_on(ip, addrs);
}

/* read_reversed reads the tuple of what would come back to a quoted packet. */
static __always_inline void read_reversed(struct flow_key *key, const ip_header_t *ip,
					  const struct udphdr *ports)
{
	*key = (struct flow_key){
		.saddr = destination_of(ip),
		.daddr = source_of(ip),
		.sport = ports->dest,
		.dport = ports->source,
		.proto = proto_of(ip),
	};
}

/* follow_icmp is rule 9, but for errors about flows between families: NEXT_FAMILY. */
static __noinline int follow_icmp(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	addr_t to;
	struct quote *q;
	struct flow *f;
	__u64 sum;

	if ((void *)(ip + 1) > end)
		return PASS_OTHER; /* unreachable */
	to = destination_of(ip);
	q = quote_of(p, ip, end);
	if (!q)
		return answer_echo(p, &to);
	read_reversed(p->key, &q->ip, &q->ports);
	f = find(p->key, &p->stamp);
	if (!f || !counts(&p->when, f, p->stamp) || state_of(p->stamp) == FLOW_RESET)
		return icmp_without_flow(p, &to);
	if (p->ttl <= 1)
		return DROP_TTL;
	if (judge(p, f) != FIT)
		return FAULT(78, DROP_FLOW_ENDED, DROP_TTL);
	if (FAULT(94, is_robbed(p, f), false))
		return DROP_FLOW_ENDED;
	if (is_mixed(f))
		return NEXT_FAMILY;
	sum = rewrite_quote(p, q, end, f) + rewrite_error(ip, f, dir_of(p->stamp));
	q->icmp.checksum = csum_update(q->icmp.checksum, FAULT(76, fold(sum), 0));
	return depart(p->ctx, data, f, stamp_at(f), p->stamp, 0, &p->egress);
}

#ifdef WIDE
#include "error.h"
#else
/* cross_error is for who knows both families. */
static __always_inline int cross_error(struct packet *p)
{
	(void)p;
	return DROP_FAMILY;
}
#endif
