/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * parse.h - from bytes on the wire to struct packet: rule 1.
 *
 * Lengths come from the IP header; the frame's own end only bounds what may be
 * touched, since frames are padded.
 */
#pragma once

#include "packet.h"

_Static_assert(sizeof(struct flow_key) == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "read_key writes the protocol and the padding after it as one word");

#define IP_PLAIN 0x45 /* version 4, no options */
#define IP_OFFSET 0x1fff
#define IP_MORE 0x2000 /* more fragments */
#define IP_FRAGMENT (IP_MORE | IP_OFFSET)

/* has_use says that user space has listed an address for one of these. */
static __always_inline bool has_use(__be32 addr, __u32 uses)
{
	__u32 *has = bpf_map_lookup_elem(&vips, &addr);

	return has && *has & uses;
}

/* at_vip returns v for an odd packet that is sent to a service address. */
static __always_inline int at_vip(__be32 addr, enum verdict v)
{
	return has_use(addr, FAULT(134, ADDRESS_SERVICE, -1U)) ? v : PASS_OTHER;
}

/* is_group says that a frame is for everybody, or for some: not for this host alone. */
static __always_inline bool is_group(const void *eth)
{
	return *(const __u8 *)eth & FAULT(53, 1, 0);
}

static __always_inline bool is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* parse_tagged reads a frame with VLAN tags just as far as its verdict needs. */
static __noinline int parse_tagged(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 *type = data + 12;
	struct iphdr *ip;

	for (int tags = 0; tags < 2; tags++) {
		if ((void *)(type + 1) > end)
			return PASS_OTHER;
		if (!is_tag(*type))
			break;
		type += 2;
	}
	ip = (void *)(type + 1);
	if ((void *)(ip + 1) > end || *type != bpf_htons(ETH_P_IP) || ip->version != 4)
		return PASS_OTHER;
	return at_vip(ip->daddr, FAULT(3, PASS_VLAN, PASS_OTHER));
}

/*
 * is_held says that the frame holds the packet. The headers must lie in its
 * linear part; what follows them may be in fragments of a jumbo frame.
 */
static __always_inline bool is_held(struct packet *p, const struct iphdr *ip, const void *end)
{
	__u32 linear = end - (void *)ip;
	__u32 headers = sizeof(*ip);

	if (likely(p->total <= FAULT(4, linear, linear + 1)))
		return true;
	if (ip->protocol == IPPROTO_TCP)
		headers += sizeof(struct tcphdr);
	if (ip->protocol == IPPROTO_UDP)
		headers += sizeof(struct udphdr);
	return linear >= headers && p->total + ETH_HLEN <= bpf_xdp_get_buff_len(p->ctx);
}

/* oddity is rule 1.3: why a packet is not one to look a flow up for. */
static __always_inline int oddity(struct packet *p, const struct iphdr *ip, const void *end)
{
	bool has_ports = ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP;
	__u32 len = ip->ihl * 4;

	if (len < sizeof(*ip) || p->total < len || !is_held(p, ip, end))
		return PASS_MALFORMED;
	if (len > FAULT(5, sizeof(*ip), 60))
		return PASS_OPTIONS;
	if (!has_ports && ip->frag_off & FAULT(6, bpf_htons(IP_FRAGMENT), 0))
		return PASS_FRAGMENT;
	p->rest = p->total - sizeof(*ip);
	if (ip->protocol == IPPROTO_ICMP)
		return NEXT_ICMP;
	if (!has_ports)
		return PASS_OTHER;
	if (ip->frag_off & FAULT(135, bpf_htons(IP_OFFSET), 0))
		return NEXT_FRAGMENT;
	return p->rest < sizeof(struct udphdr) ? PASS_MALFORMED : NEXT_STEP;
}

/* parse_lengths is rule 1.4: do the header's own lengths fit into the packet? */
static __always_inline void parse_lengths(struct packet *p, const void *l4, const void *end)
{
	const struct tcphdr *tcp = l4;
	const struct udphdr *udp = l4;
	__u32 len;

	if (p->key.proto == IPPROTO_UDP) {
		len = bpf_ntohs(udp->len);
		if (len < sizeof(*udp) ||
		    (len > FAULT(7, p->rest, 0xffff) && !FAULT(136, p->first, false)))
			p->bad = true;
		return;
	}
	if (p->rest < sizeof(*tcp) || (void *)(tcp + 1) > end) {
		p->bad = true;
		return;
	}
	len = tcp->doff * 4;
	if (len < sizeof(*tcp) || len > FAULT(8, p->rest, p->rest + 4))
		p->bad = true;
	else
		p->flags = ((const __u8 *)tcp)[13];
}

/* read_ends reads what every fragment has of its packet's tuple. */
static __always_inline void read_ends(struct flow_key *key, const struct iphdr *ip)
{
	key->saddr = ip->saddr;
	key->daddr = ip->daddr;
	*(__u32 *)&key->proto = ip->protocol; /* and the padding; see the assertion above */
}

/* read_key reads a packet's tuple; ports are TCP's or UDP's. */
static __always_inline void read_key(struct flow_key *key, const struct iphdr *ip,
				     const void *ports)
{
	read_ends(key, ip);
	COPY(&key->sport, ports, 4);
}

/* parse fills p, or returns the verdict of a packet that no flow can have. */
static __noinline int parse(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *ports = (void *)(ip + 1); /* TCP's are at the same place */
	__be16 *type = data + 12;
	int odd;

	if ((void *)(type + 1) > end || is_group(data))
		return PASS_OTHER;
	if (is_tag(*type))
		return parse_tagged(p->ctx);
	if (*type != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > end || ip->version != 4)
		return PASS_OTHER;
	p->total = bpf_ntohs(ip->tot_len);
	odd = oddity(p, ip, end);
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	p->id = ip->id;
	if (odd == NEXT_FRAGMENT)
		read_ends(&p->key, ip);
	if (odd == PASS_OTHER || odd == NEXT_ICMP || odd == NEXT_FRAGMENT)
		return odd;
	if (odd != NEXT_STEP || (void *)(ports + 1) > end)
		return at_vip(ip->daddr, odd != NEXT_STEP ? odd : PASS_MALFORMED);
	read_key(&p->key, ip, ports);
	p->first = ip->frag_off & bpf_htons(IP_MORE);
	parse_lengths(p, ports, end);
	return NEXT_STEP;
}
