/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* ipv6.h - what the program for IPv6 does in its own way: rule 10. See family.h. */
#pragma once

#include "csum.h"
#include "extension.h"

#define PROGRAM fairlead6
#define FAST __noinline /* the stack has no room for what it needs beside all the rest */
#define ETH_P_OWN ETH_P_IPV6
#define IPPROTO_OWN_ICMP 58
#define LEAST_MTU 1280 /* that every link has */

/* Types and codes of ICMPv6 (RFC 4443). */
#define ICMP_UNREACHABLE 1
#define ICMP_PORT_UNREACHABLE 4
#define ICMP_TOO_BIG_TYPE 2
#define ICMP_TOO_BIG_CODE 0
#define ICMP_TIME_EXCEEDED 3
#define ICMP_LAST_ERROR 4 /* from 1 on: parameter problem */
#define ICMP_ECHO_REQUEST 128
#define ICMP_ECHO_REPLY 129

/* struct words is a key as the integers that it is hashed as. */
struct words {
	__u64 saddr[2];
	__u64 daddr[2];
	__u64 rest; /* ports and protocol */
};

/* half returns two words of an address as one integer. */
static __always_inline __u64 half(const __be32 *word)
{
	return word[0] | (__u64)word[1] << 32;
}

/* mix returns the part of a hash's sum that a half has, whose last bytes differ most. */
static __always_inline __u64 mix(__u64 half, __u64 hash)
{
	return __builtin_bswap64(half) * hash;
}

/*
 * add_half returns sum with a part of an address. It has computed that before
 * the next part is read: there is no room on the stack for all of them.
 */
static __always_inline __u64 add_half(__u64 sum, const __be32 *word, __u64 hash)
{
	sum += mix(half(word), hash);
	barrier_var(sum);
	barrier();
	return sum;
}

/* sum_key returns the sum that a key's hash is made of. */
static __always_inline __u64 sum_key(const struct control *c, const struct flow_key *k)
{
	__u64 sum = 0;

	sum = add_half(sum, k->saddr.word, c->hash_a);
	sum = add_half(sum, k->saddr.word + 2, c->hash_b);
	sum = add_half(sum, k->daddr.word, c->hash_c);
	sum = add_half(sum, k->daddr.word + 2, FAULT(160, c->hash_d, 0));
	return sum + (k->sport | (__u64)k->dport << 16 | (__u64)k->proto << 32) * c->hash_e;
}

/* words_at reads the key of a packet without extension headers. Ports are TCP's or UDP's. */
static __always_inline struct words words_at(const ip_header_t *ip, const void *ports)
{
	const __u64 *addrs = (const void *)&ip->saddr;

	return (struct words){
		.saddr = {addrs[0], addrs[1]},
		.daddr = {addrs[2], addrs[3]},
		.rest = *(const __u32 *)ports | (__u64)ip->next << 32,
	};
}

/* sum_words is sum_key for words. */
static __always_inline __u64 sum_words(const struct control *c, struct words w)
{
	return mix(w.saddr[0], c->hash_a) + mix(w.saddr[1], c->hash_b) +
	       mix(w.daddr[0], c->hash_c) + mix(w.daddr[1], c->hash_d) + w.rest * c->hash_e;
}

/* has_words says that f has the key w. */
static __always_inline bool has_words(const struct flow *f, struct words w)
{
	const __u64 *key = (const void *)&f->key;

	return key[0] == w.saddr[0] && key[1] == w.saddr[1] && key[2] == w.daddr[0] &&
	       key[3] == w.daddr[1] && key[4] == w.rest;
}

static __always_inline bool same_addr(const addr_t *a, const addr_t *b)
{
	return half(a->word) == half(b->word) &&
	       FAULT(161, half(a->word + 2) == half(b->word + 2), true);
}

/* addr_change returns what the change of an address adds to a checksum, not folded. */
static __always_inline __u64 addr_change(const addr_t *from, const addr_t *to)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		sum += (__u64)(__u32)~from->word[i] + to->word[i];
	return sum;
}

/* own_addr returns an address of this family out of a row of both. */
static __always_inline addr_t own_addr(const struct address *a)
{
	return *a;
}

/* wide_addr returns an address for a row of both families. */
static __always_inline struct address wide_addr(const addr_t *addr)
{
	return *addr;
}

/* fragment_proto: a datagram's fragments do not all know its protocol. */
static __always_inline __u8 fragment_proto(const struct packet *p)
{
	(void)p;
	return FAULT(145, NEXT_FRAGMENT, p->key->proto);
}

static __always_inline addr_t masked(const addr_t *addr, const struct address *mask)
{
	addr_t net;

#pragma unroll
	for (int i = 0; i < 4; i++)
		net.word[i] = addr->word[i] & FAULT(162, mask->word[i], -1U);
	return net;
}

/* is_bad_source says that no honest client has this address. */
static __always_inline bool is_bad_source(const addr_t *addr)
{
	__u32 first = bpf_ntohl(addr->word[0]), last = bpf_ntohl(addr->word[3]);

	if (first >> 24 == FAULT(163, 0xff, 0) || first >> 22 == FAULT(164, 0xfe80 >> 6, 0x3ff))
		return true;
	if (addr->word[0] || addr->word[1])
		return false;
	return (!addr->word[2] && last <= FAULT(165, 1, 0)) ||
	       addr->word[2] == FAULT(166, bpf_htonl(0xffff), -1U);
}

/* is_own says that a header is of this family. */
static __always_inline bool is_own(const ip_header_t *ip)
{
	return ip->begin[0] >> 4 == 6;
}

/* is_simple says that rule 1 has nothing against the header, and the hop limit is not used up. */
static __always_inline bool is_simple(const ip_header_t *ip)
{
	return is_own(ip) && ip->hops > 1;
}

static __always_inline __u32 total_of(const ip_header_t *ip)
{
	return sizeof(*ip) + bpf_ntohs(ip->payload);
}

/* proto_of is TCP or UDP only if there are no extension headers. */
static __always_inline __u8 proto_of(const ip_header_t *ip)
{
	return ip->next;
}

/* may_split says that routers may make fragments of the packet. */
static __always_inline bool may_split(const ip_header_t *ip)
{
	(void)ip;
	return false;
}

/* is_extended says that extension headers stand before TCP, UDP or ICMP. */
static __always_inline bool is_extended(const struct packet *p)
{
	return p->l4 != sizeof(ip_header_t);
}

/* at_l4 returns the packet's TCP, UDP or ICMP header. */
static __always_inline void *at_l4(const struct packet *p, ip_header_t *ip)
{
	__u32 l4 = p->l4;

	barrier_var(l4);
	return (void *)ip + (l4 & 511); /* as the verifier knows no more */
}

_Static_assert(sizeof(ip_header_t) + EXTENSIONS_LEN < 512,
	       "at_l4 reaches what step_over has found");

/* read_ends reads what every fragment has of its packet's tuple. */
static __always_inline void read_ends(struct flow_key *key, const ip_header_t *ip, __u8 proto)
{
	COPY(&key->saddr, &ip->saddr, 32);
	write_proto(key, proto);
}

/* read_ip reads the headers: NEXT_STEP, or why the packet is odd. */
static __always_inline int read_ip(struct packet *p, ip_header_t *ip, const void *end)
{
	__u32 linear = end - (void *)ip, headers;
	int odd;

	p->total = total_of(ip);
	p->ttl = ip->hops;
	p->tos = ip->begin[0] << 4 | ip->begin[1] >> 4;
	if (p->total > FAULT(171, linear, linear + 1) &&
	    p->total + ETH_HLEN > bpf_xdp_get_buff_len(p->ctx))
		return PASS_MALFORMED;
	odd = step_over(p, ip, end, p->total < linear ? p->total : linear);
	if (odd != NEXT_STEP)
		return odd;
	p->rest = p->total - p->l4;
	headers = p->l4;
	if (p->proto == IPPROTO_TCP)
		headers += sizeof(struct tcphdr);
	if (p->proto == IPPROTO_UDP)
		headers += sizeof(struct udphdr);
	return p->total > linear && headers > linear ? cut_off(p, linear) : NEXT_STEP;
}

/* ip_delta_of: there is no checksum. */
static __always_inline __u64 ip_delta_of(__u64 addrs)
{
	(void)addrs;
	return 0;
}

static __always_inline void translate_ip(ip_header_t *ip, const struct flow *f)
{
	COPY(&ip->saddr, &f->saddr, 32);
	ip->hops -= FAULT(172, 1, 0);
}

/* write_ip writes the header of an answer of ours, of len bytes with this header. */
static __always_inline void write_ip(const struct packet *p, ip_header_t *ip, __u8 proto, __u16 len)
{
	*(__u32 *)ip->begin = bpf_htonl(6U << 28);
	ip->payload = bpf_htons(len - sizeof(*ip));
	ip->next = proto;
	ip->hops = ANSWER_TTL;
	COPY(&ip->saddr, &p->key->daddr, 16);
	COPY(&ip->daddr, &p->key->saddr, 16);
}

/* swap_ends makes ip the header of an answer; the addresses' sum stays. */
static __always_inline void swap_ends(ip_header_t *ip)
{
	addr_t from = ip->saddr;

	ip->saddr = ip->daddr;
	ip->daddr = from;
	ip->hops = FAULT(153, ANSWER_TTL, ip->hops);
}

/* icmp_pseudo is what the checksum of an ICMP error of ours covers besides the error. */
static __always_inline __u32 icmp_pseudo(const struct packet *p, __u16 len)
{
	return csum_add(&p->key->saddr, 32, bpf_htons(IPPROTO_OWN_ICMP) + bpf_htons(len));
}

/* is_icmp_error says that ICMP of this type quotes a packet. */
static __always_inline bool is_icmp_error(__u8 type)
{
	return type >= ICMP_UNREACHABLE && type <= FAULT(173, ICMP_LAST_ERROR, 255);
}

/*
 * quoted_l4 returns where TCP or UDP of a quoted packet is, and which it says:
 * behind the header or, in a first fragment, behind that one's. NULL: nowhere.
 */
static __always_inline void *quoted_l4(ip_header_t *ip, const void *end, __u8 *proto)
{
	struct extension *e = (void *)(ip + 1);

	if (!is_own(ip))
		return NULL;
	*proto = ip->next;
	if (*proto != FAULT(205, NEXT_FRAGMENT, 255))
		return e;
	if ((void *)(e + 1) > end || e->part & FAULT(206, bpf_htons(FRAGMENT_OFFSET), 0))
		return NULL;
	*proto = e->next;
	return e + 1;
}

/* update_quoted: there is no checksum. */
static __always_inline __u64 update_quoted(ip_header_t *ip, __u64 addrs)
{
	(void)ip;
	(void)addrs;
	return 0;
}

/* pass_on is a router's part for an error, and returns what its new addresses add to ICMP's checksum. */
static __always_inline __u64 pass_on(ip_header_t *ip, __u64 addrs)
{
	ip->hops--;
	return FAULT(174, addrs, 0);
}

/* set_ends says between which addresses a way is looked up. */
static __always_inline void set_ends(struct bpf_fib_lookup *to, const addr_t *from_addr,
				     const addr_t *to_addr, __u8 tos)
{
	to->flowinfo = bpf_htonl((__u32)tos << 20);
	COPY(to->ipv6_src, from_addr, 16);
	COPY(to->ipv6_dst, to_addr, 16);
}

/* fib_end is where a way is looked up to. */
static __always_inline addr_t fib_end(const struct bpf_fib_lookup *fib)
{
	return *(const addr_t *)fib->ipv6_dst;
}

/* set_tuple says which connection of the host is asked for, and returns the tuple's length. */
static __always_inline __u32 set_tuple(struct bpf_sock_tuple *tuple, const struct flow_key *key)
{
	COPY(tuple->ipv6.saddr, &key->saddr, 16);
	COPY(tuple->ipv6.daddr, &key->daddr, 16);
	tuple->ipv6.sport = key->sport;
	tuple->ipv6.dport = key->dport;
	return sizeof(tuple->ipv6);
}

/* kernel_cookie returns a SYN's cookie, or less than 0; check_cookie returns 0 for a good one. */
static __always_inline __s64 kernel_cookie(void *ip, struct tcphdr *tcp, __u32 len)
{
	return bpf_tcp_raw_gen_syncookie_ipv6(ip, tcp, len);
}

static __always_inline long check_cookie(void *ip, struct tcphdr *tcp)
{
	return bpf_tcp_raw_check_syncookie_ipv6(ip, tcp);
}

/* hand_over: there is nobody else. */
static __always_inline void hand_over(struct xdp_md *ctx)
{
	(void)ctx;
}
