/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* ipv4.h - what programs that read IPv4 do in their own way: see family.h. */
#pragma once

#ifdef MIXED
#include "mixed.h"
#else
#include "narrow.h"
#endif

#define ETH_P_OWN ETH_P_IP
#define IPPROTO_OWN_ICMP IPPROTO_ICMP
#define LEAST_MTU 576 /* that every host takes */
#define IP_PLAIN 0x45 /* version 4, no options */
#define IP_OFFSET 0x1fff
#define IP_MORE 0x2000 /* more fragments */
#define IP_FRAGMENT (IP_MORE | IP_OFFSET)
#define IP_DF 0x4000 /* don't fragment */

/* TTL's word loses one in its first byte: ~m + m' is this for every m. */
#define TTL_DELTA (0xffff - bpf_htons(0x0100))

/* Types and codes of ICMP. */
#define ICMP_UNREACHABLE 3
#define ICMP_PORT_UNREACHABLE 3
#define ICMP_NO_PROTOCOL 2
#define ICMP_TOO_BIG_TYPE 3
#define ICMP_TOO_BIG_CODE 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO_REQUEST 8

static __always_inline __u8 fragment_proto(const struct packet *p)
{
	return FAULT(121, p->proto, 0);
}

/* is_bad_source says that no honest client has this address. */
static __always_inline bool is_bad_source(const addr_t *addr)
{
	__u32 first = bpf_ntohl(*word_in(addr)) >> 24;

	return first == 0 || first == FAULT(41, 127, 0) || first >= FAULT(42, 224, 240);
}

/* is_own says that a header is of this family. */
static __always_inline bool is_own(const ip_header_t *ip)
{
	return ip->version == 4;
}

/* is_simple says that rule 1 has nothing against the header, and the TTL is not used up. */
static __always_inline bool is_simple(const ip_header_t *ip)
{
	return *(const __u8 *)ip == IP_PLAIN && !(ip->frag_off & bpf_htons(IP_FRAGMENT)) &&
	       ip->ttl > 1;
}

static __always_inline __u32 total_of(const ip_header_t *ip)
{
	return bpf_ntohs(ip->tot_len);
}

static __always_inline __u8 proto_of(const ip_header_t *ip)
{
	return ip->protocol;
}

/* is_ours says that a packet with this header may be for a service. */
static __always_inline bool is_ours(const ip_header_t *ip)
{
	return is_own(ip);
}

/* may_split says that routers may make fragments of the packet. */
static __always_inline bool may_split(const ip_header_t *ip)
{
	return !(ip->frag_off & bpf_htons(FAULT(70, IP_DF, 0)));
}

/* is_extended says that more than the IP header stands before TCP, UDP or ICMP. */
static __always_inline bool is_extended(const struct packet *p)
{
	(void)p;
	return false;
}

/* at_l4 returns the packet's TCP, UDP or ICMP header. */
static __always_inline void *at_l4(const struct packet *p, ip_header_t *ip)
{
	(void)p;
	return ip + 1;
}

/* read_ends reads what every fragment has of its packet's tuple. */
static __always_inline void read_ends(struct flow_key *key, const ip_header_t *ip, __u8 proto)
{
	key->saddr = source_of(ip);
	key->daddr = destination_of(ip);
	write_proto(key, proto);
}

/*
 * is_held says that the frame holds the packet. The headers must lie in its
 * linear part; what follows them may be in fragments of a jumbo frame.
 */
static __always_inline bool is_held(struct packet *p, const ip_header_t *ip, const void *end)
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

/* read_ip reads the header: NEXT_STEP, or why the packet is odd. */
static __always_inline int read_ip(struct packet *p, const ip_header_t *ip, const void *end)
{
	__u32 len = ip->ihl * 4;

	p->total = total_of(ip);
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	p->proto = ip->protocol;
	if (len < sizeof(*ip) || p->total < len || !is_held(p, ip, end))
		return PASS_MALFORMED;
	if (len > FAULT(5, sizeof(*ip), 60))
		return PASS_OPTIONS;
	if (!has_ports(p->proto) && ip->frag_off & FAULT(6, bpf_htons(IP_FRAGMENT), 0))
		return PASS_FRAGMENT;
	p->id = ip->id;
	if (has_ports(p->proto) && ip->frag_off & FAULT(135, bpf_htons(IP_OFFSET), 0))
		return NEXT_LATER;
	p->first = has_ports(p->proto) && ip->frag_off & bpf_htons(IP_MORE);
	p->rest = p->total - sizeof(*ip);
	return NEXT_STEP;
}

/* ip_delta_of returns what translation adds to the header's checksum; addrs is the addresses' part. */
static __always_inline __u64 ip_delta_of(__u64 addrs)
{
	return addrs + TTL_DELTA;
}

static __always_inline void translate_ip(ip_header_t *ip, const struct flow *f)
{
	write_ends(ip, f);
	ip->ttl -= FAULT(31, 1, 0);
	ip->check = csum_update(ip->check, READ_ONCE(f->ip_delta));
}

/* write_ip writes the header of an answer of ours, of len bytes with this header. */
static __always_inline void write_ip(const struct packet *p, ip_header_t *ip, __u8 proto, __u16 len)
{
	*ip = (ip_header_t){
		.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = bpf_htons(len),
		.frag_off = bpf_htons(IP_DF),
		.ttl = ANSWER_TTL,
		.protocol = proto,
		.saddr = *word_in(&p->key->daddr),
		.daddr = *word_in(&p->key->saddr),
	};
	ip->check = ~fold(csum_add(ip, sizeof(*ip), 0));
}

/* swap_ends makes ip the header of an answer; the addresses' sum stays. */
static __always_inline void swap_ends(ip_header_t *ip)
{
	__u16 was = bpf_htons(ip->ttl << 8), is = bpf_htons(ANSWER_TTL << 8);
	__be32 from = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = from;
	ip->ttl = FAULT(153, ANSWER_TTL, ip->ttl);
	ip->check = csum_update(ip->check, fold(word_change(was, is)));
}

/* icmp_pseudo is what the checksum of an ICMP error of ours covers besides the error. */
static __always_inline __u32 icmp_pseudo(const struct packet *p, __u16 len)
{
	(void)p;
	(void)len;
	return 0;
}

/* is_icmp_error says that ICMP of this type quotes a packet. */
static __always_inline bool is_icmp_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* quoted_l4 returns where TCP or UDP of a quoted packet is, and which it says; NULL: nowhere. */
static __always_inline void *quoted_l4(ip_header_t *ip, const void *end, __u8 *proto)
{
	(void)end;
	*proto = ip->protocol;
	return *(const __u8 *)ip == IP_PLAIN && !(ip->frag_off & bpf_htons(IP_OFFSET)) ? ip + 1
										       : NULL;
}

/*
 * update_quoted brings the checksum of a quoted header up to date, and returns
 * what that adds to ICMP's; addrs is what the new addresses add.
 */
static __always_inline __u64 update_quoted(ip_header_t *ip, __u64 addrs)
{
	__u16 old = ip->check;

	ip->check = csum_update(old, fold(addrs));
	return word_change(old, ip->check);
}

/* pass_on is a router's part for an error, and returns what its new addresses add to ICMP's checksum. */
static __always_inline __u64 pass_on(ip_header_t *ip, __u64 addrs)
{
	ip->ttl--;
	ip->check = csum_update(ip->check, fold(ip_delta_of(addrs)));
	return 0;
}

/* set_tuple says which connection of the host is asked for, and returns the tuple's length. */
static __always_inline __u32 set_tuple(struct bpf_sock_tuple *tuple, const struct flow_key *key)
{
	tuple->ipv4.saddr = *word_in(&key->saddr);
	tuple->ipv4.daddr = *word_in(&key->daddr);
	tuple->ipv4.sport = key->sport;
	tuple->ipv4.dport = key->dport;
	return sizeof(tuple->ipv4);
}

/* kernel_cookie returns a SYN's cookie, or less than 0; check_cookie returns 0 for a good one. */
static __always_inline __s64 kernel_cookie(void *ip, struct tcphdr *tcp, __u32 len)
{
	return bpf_tcp_raw_gen_syncookie_ipv4(ip, tcp, len);
}

static __always_inline long check_cookie(void *ip, struct tcphdr *tcp)
{
	return bpf_tcp_raw_check_syncookie_ipv4(ip, tcp);
}
