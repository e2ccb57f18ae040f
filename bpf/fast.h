/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * fast.h - the common packet: a whole one of a steady flow, which changes
 * nothing but counters.
 *
 * It decides nothing by itself. A packet that rules 1 and 2 would forward
 * without writing to its entry, except for seen, is forwarded here by the same
 * steps; any other one is left untouched for the complete way through the
 * rules. What makes it quick is that its struct packet has no address, so that
 * the compiler keeps what it needs of it in registers.
 */
#pragma once

#include "follow.h"
#include "forward.h"
#include "parse.h"

/* is_plain says that rule 1 has nothing against the packet, and no flag is one of a flow's begin or end. */
static __always_inline bool is_plain(const ip_header_t *ip, const void *end)
{
	const struct tcphdr *tcp = (void *)(ip + 1);
	const struct udphdr *udp = (void *)(ip + 1);
	__u32 total = total_of(ip);
	__u32 len;

	if (!is_simple(ip))
		return false;
	if (total > (__u32)(end - (const void *)ip))
		return false;
	if (likely(proto_of(ip) == IPPROTO_TCP)) {
		len = tcp->doff * 4;
		return len >= sizeof(*tcp) && sizeof(*ip) + len <= FAULT(49, total, total + 4) &&
		       !(((const __u8 *)tcp)[13] &
			 (FAULT(50, TCP_RST | TCP_FIN, 0) | FAULT(310, TCP_SYN, 0)));
	}
	len = bpf_ntohs(udp->len);
	return proto_of(ip) == IPPROTO_UDP && len >= sizeof(*udp) && sizeof(*ip) + len <= total;
}

/* may_begin says that a plain packet of a flow in this state may be a step to an established one. */
static __always_inline bool may_begin(struct stamp s)
{
	return (state_of(s) == FLOW_NEW && dir_of(s) == DIR_REPLY) ||
	       (state_of(s) == FLOW_ANSWERED && dir_of(s) == DIR_FORWARD);
}

/* is_steady says that a plain packet, whose entry is f with this stamp, changes nothing but seen. */
static __always_inline bool is_steady(const struct packet *p, const struct flow *f, struct stamp s)
{
	enum flow_state state = state_of(s);

	if (unlikely(is_due(&p->when, f)))
		return false;
	if (likely(state == FLOW_ESTABLISHED))
		return true;
	return state < FAULT(51, FLOW_CLOSED, FLOW_ABORTED_REPLY + 1) && !is_disguised(f, s) &&
	       !may_begin(s);
}

/*
 * find_fast is find in one of the two buckets. The tuple is not put together in
 * memory: it would have to be read from there in larger pieces than it was
 * written in.
 */
static __always_inline struct flow *find_fast(const struct control *c, const ip_header_t *ip,
					      const void *ports, struct stamp **at,
					      struct stamp *was, bool second)
{
	struct words key = words_at(ip, ports);
	__u64 hash = hash_of(c, sum_words(c, key));
	__u32 want = tag_of(hash) | READ_ONCE(c->era) << 16;
	struct spot spot = spot_at(hash);
	__u32 bucket = second ? FAULT(56, spot.second, spot.first) : spot.first;
	struct bucket *b = bpf_map_lookup_elem(&OWN(flows), &bucket);

	if (!b)
		return NULL;
	for (int i = 0; i < BUCKET_PLACES; i++) {
		struct flow *f = &b->places[i];

		/* The stamp is read first: while that is_still there, so is the key. */
		*at = &b->stamps[i];
		*was = read_stamp(*at);
		if ((was->tag | (__u32)was->era << 16) == want && has_words(f, key))
			return f;
	}
	return NULL;
}

/*
 * forward_fast is forward for the common packet, whose entry is in its first or
 * in its second bucket. If it is not, NEXT_BUCKET is returned; NEXT_STEP of any
 * other packet.
 */
static FAST int forward_fast(struct xdp_md *ctx, __u32 *egress, bool second)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	ip_header_t *ip = data + ETH_HLEN;
	struct tcphdr *tcp = (void *)(ip + 1); /* or UDP's */
	struct packet p = {};
	const struct control *c;
	__u32 zero = 0;
	struct stamp *at, s;
	struct flow *f;

	if (unlikely((void *)(tcp + 1) > end || *(__be16 *)(data + 12) != bpf_htons(ETH_P_OWN)))
		return NEXT_STEP;
	if (unlikely(is_group(data)))
		return NEXT_STEP;
	if (unlikely(!is_plain(ip, end)))
		return NEXT_STEP;
	c = bpf_map_lookup_elem(&control, &zero);
	if (unlikely(!c || READ_ONCE(c->mode) == FAULT(52, MODE_OFF, MODE_ON + 1)))
		return NEXT_STEP;
	f = find_fast(c, ip, tcp, &at, &s, second);
	if (unlikely(!f))
		return NEXT_BUCKET;
	p.when = this_moment(c);
	if (unlikely(!is_steady(&p, f, s) || is_too_big(f, FAULT(71, total_of(ip), 0))))
		return NEXT_STEP;
	touch(&p, at);
	if (unlikely(proto_of(ip) == IPPROTO_UDP))
		update_udp((struct udphdr *)tcp, READ_ONCE(f->l4_delta));
	else
		translate_tcp(tcp, f);
	return leave(ctx, data, tcp, f, at, s, egress);
}

/*
 * forward_second is forward_fast for the few whose first bucket was full. To look
 * into both in one function makes it slower for all others.
 */
static __noinline int forward_second(struct xdp_md *ctx, __u32 *egress)
{
	return forward_fast(ctx, egress, true);
}
