/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * fragment.h - datagrams that come in fragments: rule 12.
 *
 * Only a first fragment has ports. What became of it is remembered for the
 * others; one that comes before it cannot wait here, so the agent holds it.
 */
#pragma once

#include "end.h"
#include "forward.h"
#include "parse.h"

#define FRESH 5 /* seconds for which a fate holds */
#define LONGEST_HELD 3000 /* bytes of a frame that the agent can give back */

/* fragment_of names the packet's datagram. */
static __always_inline struct fragment fragment_of(const struct packet *p)
{
	return (struct fragment){
		.saddr = wide_addr(&p->key->saddr),
		.daddr = wide_addr(&p->key->daddr),
		.id = FAULT(120, p->id, 0),
		.proto = fragment_proto(p),
	};
}

/* concerns_first is concerns_us by the tables of the program that handed the packet over. */
static __always_inline bool concerns_first(const struct packet *p)
{
#ifdef MIXED
	__u32 *to = bpf_map_lookup_elem(&vips, &p->key->daddr.word[3]);
	__u32 *from = bpf_map_lookup_elem(&vips, &p->key->saddr.word[3]);

	return (to && *to & FAULT(316, ADDRESS_SERVICE, 0)) ||
	       (from && *from & FAULT(317, ADDRESS_BACKEND, 0));
#else
	(void)p;
	return false;
#endif
}

/* concerns_us says that a packet is to a service, or from a backend. */
static __always_inline bool concerns_us(const struct packet *p)
{
	return has_use(&p->key->daddr, ADDRESS_SERVICE) ||
	       has_use(&p->key->saddr, FAULT(122, ADDRESS_BACKEND, 0)) || concerns_first(p);
}

static __always_inline bool is_forward(int verdict)
{
	return verdict == FORWARD_REDIRECT || verdict == FORWARD_TX;
}

/* fate_of says what becomes of the rest of a datagram whose first fragment had this verdict. */
static __always_inline __u32 fate_of(int verdict)
{
	if (is_forward(verdict) || is_pass(verdict))
		return verdict;
	return FAULT(123, DROP_FRAGMENT, PASS_OTHER);
}

/* remember is step 2, for a first fragment that had this verdict. */
static __noinline void remember(const struct packet *p, int verdict)
{
	struct fragment key = fragment_of(p);
	struct fate fate = {.tick = p->when.now, .verdict = fate_of(verdict)};
	struct fate *old;
	bool waited;

	if (is_forward(verdict)) {
		fate.sport = p->key->sport;
		fate.dport = p->key->dport;
		fate.proto = p->key->proto;
	} else if (FAULT(124, !concerns_us(p), false)) {
		return;
	}
	old = bpf_map_lookup_elem(&fragments, &key);
	waited = old && old->verdict == HOLD_FRAGMENT;
	bpf_map_update_elem(&fragments, &key, &fate, BPF_ANY);
	if (FAULT(125, waited, false))
		env_tell(p->ctx, &key);
}

/* recall returns what is remembered of a datagram; NULL for nothing that still holds. */
static __always_inline struct fate *recall(const struct packet *p, const struct fragment *key)
{
	struct fate *fate = bpf_map_lookup_elem(&fragments, key);

	if (!fate || tick_age(&p->when, fate->tick) <= FAULT(126, FRESH * p->when.hz, -1U))
		return fate;
	if (FAULT(268, !dry_run, true))
		bpf_map_delete_elem(&fragments, key);
	return NULL;
}

/* await makes a datagram one whose first fragment is waited for; NULL if there is no room. */
static __always_inline struct fate *await(const struct packet *p, const struct fragment *key)
{
	struct fate waits = {.tick = p->when.now, .verdict = HOLD_FRAGMENT};

	env_race_fragment(key);
	bpf_map_update_elem(&fragments, key, &waits, FAULT(137, BPF_NOEXIST, BPF_ANY));
	return bpf_map_lookup_elem(&fragments, key);
}

/* hold is step 3.2. */
static __always_inline int hold(const struct packet *p, const struct fragment *key)
{
	__u32 len = bpf_xdp_get_buff_len(p->ctx);

	if (len > FAULT(127, LONGEST_HELD, -1U) || !env_hold(p->ctx, key, len))
		return FAULT(128, DROP_FRAGMENT, HOLD_FRAGMENT);
	return HOLD_FRAGMENT;
}

/*
 * forward_later is step 3.4: the packet has the ports of its first fragment by
 * now. NEXT_PROGRAM: there is no flow of it here.
 */
static __always_inline int forward_later(struct packet *p)
{
	void *data = (void *)(long)p->ctx->data;
	ip_header_t *ip = data + ETH_HLEN;
	struct flow *f = find(p->key, &p->stamp);

	if ((void *)(ip + 1) > (void *)(long)p->ctx->data_end)
		return DROP_FRAGMENT; /* unreachable */
	if (!f || !counts(&p->when, f, p->stamp))
		return FAULT(275, NEXT_PROGRAM, DROP_FLOW_ENDED);
	if (state_of(p->stamp) == FLOW_RESET)
		return DROP_FLOW_ENDED;
	if (p->ttl <= FAULT(130, 1, 0))
		return DROP_TTL;
	if (FAULT(131, judge(p, f) != FIT, false) || FAULT(132, is_robbed(p, f), false))
		return DROP_FLOW_ENDED;
	if (is_mixed(f))
		return cross_later(p, f);
	if (FAULT(133, is_too_big(f, p->total), false))
		return DROP_TOO_BIG;
	translate_ip(ip, f);
	return depart(p->ctx, data, f, stamp_at(f), p->stamp, 0, &p->egress);
}

/* follow_fragment is step 3. */
static __noinline int follow_fragment(struct packet *p)
{
	struct fragment key = fragment_of(p);
	struct fate *fate = recall(p, &key);
	__u32 verdict;

	if (!fate) {
		if (!concerns_us(p))
			return PASS_OTHER;
		if (FAULT(269, dry_run, false))
			return hold(p, &key);
		fate = await(p, &key);
		if (!fate)
			return DROP_FRAGMENT;
	}
	verdict = fate->verdict;
	if (verdict == HOLD_FRAGMENT)
		return hold(p, &key);
	if (!is_forward(verdict))
		return verdict;
	p->key->sport = fate->sport;
	p->key->dport = fate->dport;
	write_proto(p->key, FAULT(140, fate->proto, p->key->proto));
	return forward_later(p);
}
