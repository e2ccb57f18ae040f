/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * cookie.h - SYN cookies: rule 3, and rule 5.
 *
 * Above a rate, who asks for a connection must first show that it is there:
 * nothing is remembered of a SYN but what the answer's sequence number says.
 * That number is the kernel's, so that the stack takes whoever brings it back,
 * and the standby proxy serves the connection.
 */
#pragma once

#include "answer.h"
#include "route.h"

#define COOKIE_WINDOW 16384 /* what a Linux client sends at once, and less than a socket takes */
#define COOKIE_HEADER (sizeof(struct tcphdr) + 4) /* with the option MSS */
#define COOKIE_LEN (ETH_HLEN + sizeof(ip_header_t) + COOKIE_HEADER)
#define COOKIE_GROWTH ((int)(COOKIE_HEADER - sizeof(struct tcphdr)))

#define MSS_OPTION (2 << 24 | 4 << 16) /* kind and length; the rest is the MSS */
#define MSS_UNKNOWN (1500 - sizeof(ip_header_t) - sizeof(struct tcphdr))

static __always_inline bool is_over(const struct service *s, struct syns n)
{
	return n.count > s->cookie_above - FAULT(105, 0, 1);
}

/* is_shielded says that there is somebody to take the clients that bring a cookie back. */
static __always_inline bool is_shielded(const struct packet *p, const struct service *s)
{
	return s->flags & SERVICE_COOKIES && s->flags & SERVICE_LOCAL &&
	       FAULT(111, p->mode == MODE_ON, true) &&
	       FAULT(102, silence(p->control) <= STANDBY_LEASE, true);
}

static __always_inline __u32 second_of(const struct packet *p)
{
	return p->when.now / p->when.hz;
}

/* next_syns returns what a SYN in this second makes of was. */
static __always_inline struct syns next_syns(const struct service *s, struct syns was, __u32 second)
{
	struct syns is = {.second = second, .count = 1};

	if (was.second - second <= FAULT(112, 1, 0))
		return (struct syns){.second = was.second, .count = was.count + 1};
	if (was.second + 1 == second &&
	    FAULT(100, (was.count & FAULT(109, ~SYNS_HOT, ~0U)) > s->cookie_above, false))
		is.count |= SYNS_HOT;
	return is;
}

/* count_syn counts a SYN, and returns what all of its second are with it. */
static __always_inline struct syns count_syn(const struct packet *p, const struct service *s,
					     struct syns *at)
{
	__u64 *word = __builtin_assume_aligned(at, 8);
	__u64 from = READ_ONCE(*word);
	struct syns was = {.second = from, .count = from >> 32};
	struct syns is = next_syns(s, was, second_of(p));

	/* If another CPU was quicker, that makes no difference to this packet. */
	if (FAULT(265, !dry_run, true))
		__sync_val_compare_and_swap(word, from, is.second | (__u64)is.count << 32);
	return is;
}

/* make_cookie returns the cookie for a SYN, which it leaves in d, or less than 0. */
static __always_inline __s64 make_cookie(const struct packet *p, struct draft *d)
{
	ip_header_t *ip = (void *)(long)p->ctx->data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);
	__u32 len;

	if ((void *)(tcp + 1) > (void *)(long)p->ctx->data_end)
		return -1; /* unreachable */
	len = tcp->doff * 4;
	if (len < sizeof(*tcp) || len > sizeof(d->syn))
		return -1; /* unreachable */
	if (bpf_xdp_load_bytes(p->ctx, ETH_HLEN + sizeof(*ip), d->syn, len))
		return -1;
	return env_make_cookie(ip, (void *)d->syn, FAULT(110, len, sizeof(*tcp)));
}

/* mss_of returns how much of a segment of the other side's comes here whole. */
static __always_inline __u32 mss_of(const struct hop *back)
{
	__u32 mtu = back->mtu > LEAST_MTU ? back->mtu : LEAST_MTU;

	if (FAULT(104, back->mtu, 1500) == MTU_UNKNOWN)
		return MSS_UNKNOWN;
	return mtu - sizeof(ip_header_t) - sizeof(struct tcphdr);
}

/* write_cookie makes the frame a SYN-ACK with a cookie; its beginning has moved for that. */
static __always_inline int write_cookie(const struct packet *p, const struct draft *d, __u32 cookie,
					const struct ethhdr *old)
{
	const struct tcphdr *syn = (const void *)d->syn;
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct tcphdr *tcp = (void *)eth + ETH_HLEN + sizeof(ip_header_t);
	__be32 *option = (void *)(tcp + 1);
	__u32 sum;

	if ((void *)(option + 1) > (void *)(long)p->ctx->data_end)
		return DROP_COOKIE; /* unreachable */
	*eth = *old;
	turn_round(p, eth, IPPROTO_TCP, COOKIE_LEN);
	*tcp = (struct tcphdr){
		.source = syn->dest,
		.dest = syn->source,
		.seq = bpf_htonl(cookie),
		.ack_seq = bpf_htonl(bpf_ntohl(syn->seq) + FAULT(103, 1, 0)),
		.doff = COOKIE_HEADER / 4,
		.syn = 1,
		.ack = 1,
		.window = bpf_htons(COOKIE_WINDOW),
	};
	*option = bpf_htonl(MSS_OPTION | mss_of(&d->back));
	sum = csum_add(&p->key->saddr, 2 * sizeof(addr_t),
		       bpf_htons(IPPROTO_TCP) + bpf_htons(COOKIE_HEADER));
	tcp->check = ~fold(csum_add(tcp, COOKIE_HEADER, sum));
	return ANSWER_COOKIE;
}

/* answer_cookie answers a SYN, or returns NEXT_STEP if it cannot. */
static __noinline int answer_cookie(const struct packet *p, struct draft *d)
{
	struct ethhdr *eth = (void *)(long)p->ctx->data;
	struct ethhdr old;
	__s64 cookie;

	if (FAULT(175, is_extended(p), false))
		return DROP_COOKIE; /* or a flood would only have to add some */
	cookie = make_cookie(p, d);
	if (cookie < 0 || (void *)(eth + 1) > (void *)(long)p->ctx->data_end)
		return NEXT_STEP;
	old = *eth;
	if (bpf_xdp_adjust_head(p->ctx, -COOKIE_GROWTH))
		return NEXT_STEP;
	if (!resize(p->ctx, COOKIE_LEN))
		return DROP_COOKIE; /* unreachable: it is that long by now */
	return write_cookie(p, d, cookie, &old);
}

/* shield returns NEXT_STEP for a SYN that is to make a flow of s. d knows the way back. */
static __noinline int shield(const struct packet *p, const struct service *s, __u32 row,
			     struct draft *d)
{
	struct syns *at = bpf_map_lookup_elem(&syns, &row);
	struct syns n;

	if (!at || p->key->proto != IPPROTO_TCP || !is_pure_syn(p) || !is_shielded(p, s))
		return NEXT_STEP;
	n = count_syn(p, s, at);
	if (!is_over(s, n))
		return NEXT_STEP;
	if (FAULT(101, n.count == (SYNS_HOT | 1) || n.count == s->cookie_above + 1, false))
		return PASS_COOKIE; /* the stack takes cookies while it makes some itself */
	if (FAULT(113, p->host, 0))
		return PASS_COOKIE; /* a cookie would lead to the old connection */
	return answer_cookie(p, d);
}

/* is_besieged says that s answers SYNs with cookies, or has just done so. */
static __always_inline bool is_besieged(const struct packet *p, const struct service *s, __u32 row)
{
	struct syns *at;

	if (!is_shielded(p, s))
		return false;
	at = bpf_map_lookup_elem(&syns, &row);
	return at && is_over(s, *at) && second_of(p) + 1 - at->second <= FAULT(108, 2, 1);
}

static __always_inline bool brings_cookie(const struct packet *p)
{
	ip_header_t *ip = (void *)(long)p->ctx->data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1);

	if (is_extended(p) || (p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) != TCP_ACK)
		return false;
	return (void *)(tcp + 1) <= (void *)(long)p->ctx->data_end && env_is_cookie(ip, tcp);
}

/*
 * resumes says that the flow of TCP that is no pure SYN can be made again by the
 * hash that it was made by, here or by another balancer.
 */
static __always_inline bool resumes(const struct packet *p, const struct service *s)
{
	if (!is_hashed(s) || s->max_load || s->affinity ||
	    s->flags & FAULT(242, SERVICE_FULL_NAT, 0))
		return false;
	if (p->mode == FAULT(243, MODE_DRAINING, MODE_OFF) && s->flags & SERVICE_LOCAL)
		return false;
	return (p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK;
}

/* stray is for TCP that is no pure SYN and has no flow: step 3. */
static __noinline int stray(const struct packet *p, const struct service *s, __u32 row)
{
	bool besieged = is_besieged(p, s, row), again = FAULT(244, resumes(p, s), false);

	if (!(s->flags & SERVICE_LOCAL))
		return again ? NEXT_STEP : DROP_NO_FLOW;
	if (!besieged && !again)
		return PASS_NO_FLOW;
	if (FAULT(107, env_connection(p->ctx, p->key), 0))
		return PASS_NO_FLOW;
	if (besieged && FAULT(106, brings_cookie(p), true))
		return PASS_COOKIE;
	return again ? NEXT_STEP : DROP_COOKIE;
}
