/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * parse.h - from bytes on the wire to struct packet: rule 1.
 *
 * Lengths come from the IP header; the frame's own end only bounds what may be
 * touched, since frames are padded.
 */
#pragma once

#include "family.h"

/* has_use says that user space has listed an address for one of these. */
static __always_inline bool has_use(const addr_t *addr, __u32 uses)
{
	__u32 *has = bpf_map_lookup_elem(&OWN(vips), addr);

	return has && *has & uses;
}

/* at_vip returns v for an odd packet that is sent to a service address. */
static __always_inline int at_vip(const addr_t *addr, enum verdict v)
{
	return has_use(addr, FAULT(134, ADDRESS_SERVICE, -1U)) ? v : PASS_OTHER;
}

/* is_group says that a frame is for everybody, or for some: not for this host alone. */
static __always_inline bool is_group(const void *eth)
{
	return *(const __u8 *)eth & FAULT(53, 1, 0);
}

/* parse_tagged reads a frame with VLAN tags just as far as its verdict needs. */
static __noinline int parse_tagged(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 *type = type_after_tags(data, end);
	ip_header_t *ip = (void *)(type + 1);
	addr_t to;

	if (!type || (void *)(ip + 1) > end || *type != bpf_htons(ETH_P_OWN) || !is_ours(ip))
		return PASS_OTHER;
	to = destination_of(ip);
	return at_vip(&to, FAULT(3, PASS_VLAN, PASS_OTHER));
}

/* oddity is rule 1.3: why a packet is not one to look a flow up for. */
static __always_inline int oddity(struct packet *p, ip_header_t *ip, const void *end)
{
	int odd = read_ip(p, ip, end);

	if (odd != NEXT_STEP)
		return odd;
	if (p->proto == IPPROTO_OWN_ICMP)
		return FAULT(146, p->first, false) ? PASS_FRAGMENT : NEXT_ICMP;
	if (!has_ports(p->proto))
		return PASS_OTHER;
	return p->rest < sizeof(struct udphdr) ? PASS_MALFORMED : NEXT_STEP;
}

/* parse_lengths is rule 1.4: do the header's own lengths fit into the packet? */
static __always_inline void parse_lengths(struct packet *p, const void *l4, const void *end)
{
	const struct tcphdr *tcp = l4;
	const struct udphdr *udp = l4;
	__u32 len;

	if (p->proto == IPPROTO_UDP) {
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

/* read_key reads a packet's tuple; ports are TCP's or UDP's. */
static __always_inline void read_key(struct flow_key *key, const ip_header_t *ip, const void *ports,
				     __u8 proto)
{
	read_ends(key, ip, proto);
	COPY(&key->sport, ports, 4);
}

/* parse fills p, or returns the verdict of a packet that no flow can have. */
static __noinline int parse(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	void *end = (void *)(long)p->ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	__be16 *type = data + 12;
	struct udphdr *ports; /* TCP's are at the same place */
	addr_t to;
	int odd;

	if ((void *)(type + 1) > end || is_group(data))
		return PASS_OTHER;
	if (is_tag(*type))
		return parse_tagged(p->ctx);
	if (*type != bpf_htons(ETH_P_OWN) || (void *)(ip + 1) > end || !is_ours(ip))
		return PASS_OTHER;
	odd = oddity(p, ip, end);
	if (p->first || odd == NEXT_LATER)
		read_ends(p->key, ip, p->proto);
	if (odd == PASS_OTHER || odd == NEXT_ICMP || odd == NEXT_LATER)
		return odd;
	ports = at_l4(p, ip);
	if (odd != NEXT_STEP || (void *)(ports + 1) > end) {
		to = destination_of(ip);
		return at_vip(&to, odd != NEXT_STEP ? odd : PASS_MALFORMED);
	}
	read_key(p->key, ip, ports, p->proto);
	parse_lengths(p, ports, end);
	return NEXT_STEP;
}
