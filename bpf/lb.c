//go:build ignore
/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * lb.c - the XDP program: a packet's way from the interface to a backend, and
 * of the answer back to the client.
 *
 * Read run() first, then handle(), with docs/datapath.md beside it;
 * forward_fast() is a short cut through the same rules. Every packet leaves
 * through the end of run(), the only place that counts verdicts; everything
 * else decides.
 */
#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#include "env.h"

#include "export.h"
#include "fast.h"
#include "follow.h"
#include "fragment.h"
#include "handover.h"
#include "icmp.h"
#include "open.h"
#include "parse.h"

/* handle returns the packet's verdict; of one that is forwarded it sets egress. */
static __always_inline int handle(struct packet *p)
{
	struct flow *f;
	int v;

	if (p->mode == MODE_OFF)
		return PASS_OFF;
	v = parse(p);
	if (unlikely(v == NEXT_ICMP)) {
		v = follow_icmp(p);
		return v == NEXT_FAMILY ? cross_error(p) : v;
	}
	if (unlikely(v == NEXT_LATER))
		return follow_fragment(p);
	if (unlikely(v != NEXT_STEP))
		return v;
	f = find(p->key, &p->stamp);
	if (unlikely(!f || !counts(&p->when, f, p->stamp)))
		return open_flow(p);
	if (FAULT(261, dry_run, false))
		f = note_flow(&p->when, f, p->stamp);
	v = follow(p, f);
	if (likely(v == NEXT_STEP))
		return forward(p, f, stamp_at(f));
	return v == NEXT_OPEN ? open_flow(p) : v;
}

/*
 * handle_any is handle for every packet that is not forward_fast's: it reads the
 * packet anew. Of one that it does not know, if fairlead46 is to be asked, it
 * returns NEXT_PROGRAM.
 */
static __noinline int handle_any(struct xdp_md *ctx, __u32 *egress, bool asks)
{
	__u32 zero = 0;
	const struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct packet p = {.ctx = ctx, .control = c};
	struct draft *d = draft();
	int verdict;

	if (!c || !d)
		return PASS_OFF; /* unreachable: arrays are never empty */
	p.key = &d->key;
	p.mode = READ_ONCE(c->mode);
	p.when = this_moment(c);
	verdict = handle(&p);
	if (asks && (verdict == PASS_OTHER || verdict == FAULT(184, PASS_ICMP, PASS_OTHER)))
		return NEXT_PROGRAM;
	if (!asks && verdict == NEXT_PROGRAM)
		verdict = DROP_FLOW_ENDED; /* of a later fragment */
	if (unlikely(p.first) && FAULT(267, !dry_run, true))
		remember(&p, verdict);
	*egress = p.egress;
	return verdict;
}

/*
 * send_back returns an answer to where the packet came from. A veth's far end
 * may not notice XDP_TX, but does notice a redirect.
 */
static __always_inline int send_back(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	struct device *d = bpf_map_lookup_elem(&devices, &ifindex);

	return d && d->flags & DEVICE_TX ? XDP_TX : env_redirect(ifindex);
}

/*
 * act does what the verdict says; egress is where to if the packet is forwarded.
 * The common verdict is asked for by itself, since a switch asks for it last.
 */
static __always_inline int act(struct xdp_md *ctx, int verdict, __u32 egress)
{
	if (likely(verdict == FORWARD_REDIRECT))
		return env_redirect(egress);
	switch (verdict) {
	case FORWARD_TX:
		return XDP_TX;
	case ANSWER_RESET:
	case ANSWER_UNREACHABLE:
	case ANSWER_TOO_BIG:
	case ANSWER_ECHO:
	case ANSWER_COOKIE:
	case ANSWER_TIME_EXCEEDED:
		return send_back(ctx);
	default:
		return is_pass(verdict) ? XDP_PASS : XDP_DROP;
	}
}

/* read_all is what is left to a packet that the short cut did not forward. */
static __always_inline int read_all(struct xdp_md *ctx, __u32 *egress, enum handover hands)
{
	int verdict;

	if (hands != HANDS_NOTHING)
		hand_ipv6(ctx);
	verdict = handle_any(ctx, egress, hands == HANDS_MIXED);
	if (hands == HANDS_MIXED && unlikely(verdict == NEXT_PROGRAM)) {
		hand_mixed(ctx);
		verdict = PASS_OTHER;
	}
	return verdict;
}

/* rehearse is run for a dry run, which takes no short cut and counts nothing. */
static __always_inline int rehearse(struct xdp_md *ctx, enum handover hands)
{
	__u32 egress = 0;

	told = (struct told){};
	told.verdict = read_all(ctx, &egress, hands);
	told.egress = egress;
	return act(ctx, told.verdict, egress);
}

/* run is the whole program. */
static __always_inline int run(struct xdp_md *ctx, enum handover hands)
{
	__u32 egress = 0;
	int verdict;

	if (dry_run)
		return rehearse(ctx, hands);
	verdict = HAS_SHORT_CUT ? forward_fast(ctx, &egress, false) : NEXT_STEP;
	if (unlikely(verdict == NEXT_BUCKET))
		verdict = forward_second(ctx, &egress);
	if (unlikely(verdict >= NEXT_STEP))
		verdict = read_all(ctx, &egress, hands);
	count_verdict(verdict);
	return act(ctx, verdict, egress);
}

SEC("xdp.frags")
int PROGRAM(struct xdp_md *ctx)
{
	return run(ctx, HANDS_NOTHING);
}

#ifndef WIDE
/* fairlead_both takes fairlead's place where there is fairlead6. */
SEC("xdp.frags")
int fairlead_both(struct xdp_md *ctx)
{
	return run(ctx, HANDS_IPV6);
}

/* fairlead_mixed takes it where there is fairlead46, too. */
SEC("xdp.frags")
int fairlead_mixed(struct xdp_md *ctx)
{
	return run(ctx, HANDS_MIXED);
}
#endif

char _license[] SEC("license") = "Dual MIT/GPL";
