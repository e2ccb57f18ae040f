/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* follow.h - a packet whose flow is known: rule 2. */
#pragma once

#include "check.h"
#include "count.h"
#include "life.h"
#include "unreachable.h"

/* follow_ended is step 3: the flow was ended here, and its peers are told once each. */
static __noinline int follow_ended(const struct packet *p, struct flow *f)
{
	if (p->flags & TCP_RST || p->key->proto == IPPROTO_UDP) {
		delete_entry(f, p->stamp);
		return DROP_FLOW_ENDED;
	}
	if (dir_of(p->stamp) == DIR_FORWARD && is_pure_syn(p)) {
		delete_pair(p, p->key, f, p->stamp);
		return NEXT_OPEN;
	}
	return reset_entry(p, f, p->stamp);
}

/* touch keeps an entry alive. A line that nobody writes to is every CPU's at once. */
static __always_inline void touch(const struct packet *p, struct stamp *at)
{
	if (READ_ONCE(at->seen) != p->when.now)
		at->seen = p->when.now;
}

/* must_check is step 5. A source that is not the client's own may be another flow's by now. */
static __always_inline bool must_check(const struct packet *p, const struct flow *f)
{
	if (is_due(&p->when, f))
		return true;
	return state_of(p->stamp) != FLOW_ESTABLISHED &&
	       FAULT(86, is_disguised(f, p->stamp), false);
}

/* number_of returns the number that the segment acknowledges, or has acknowledged if it answers. */
static __always_inline __u32 number_of(const struct packet *p, enum flow_dir dir)
{
	void *end = (void *)(long)p->ctx->data_end;
	struct tcphdr *tcp = at_l4(p, (void *)(long)p->ctx->data + ETH_HLEN);

	if (p->key->proto != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return 0;
	return dir == DIR_FORWARD ? bpf_ntohl(tcp->ack_seq)
				  : bpf_ntohl(tcp->seq) + FAULT(246, tcp->syn, 1);
}

/*
 * trouble_of returns the sign of trouble that a packet is, TROUBLE_MAX if it is none;
 * changed says that it has changed its flow's life.
 */
static __always_inline enum trouble trouble_of(const struct packet *p, bool changed)
{
	enum flow_state was = state_of(p->stamp);

	if (FAULT(313, dir_of(p->stamp) == DIR_FORWARD, !(p->flags & TCP_RST))) {
		if (was == FAULT(311, FLOW_NEW, FLOW_ANSWERED) &&
		    FAULT(312, is_pure_syn(p), p->flags & TCP_SYN))
			return TROUBLE_UNANSWERED;
		return TROUBLE_MAX;
	}
	if (!(p->flags & TCP_RST) || !changed)
		return TROUBLE_MAX;
	if (was == FLOW_NEW)
		return p->flags & FAULT(314, TCP_ACK, 0xff) ? TROUBLE_REFUSED : TROUBLE_MAX;
	return FAULT(315, was == FLOW_ESTABLISHED, was >= FLOW_ESTABLISHED) ? TROUBLE_RESET
									    : TROUBLE_MAX;
}

/* tell lets the packet play its part in the flow's life. */
static __noinline void tell(const struct packet *p, struct flow *f)
{
	struct news n = {
		.was = p->stamp,
		.number = number_of(p, dir_of(p->stamp)),
		.proto = p->key->proto,
		.flags = p->flags,
	};
	enum trouble trouble;

	trouble = trouble_of(p, advance(p, &n, f));
	if (trouble != TROUBLE_MAX)
		count_trouble(f->backend, trouble);
}

/* follow_late is step 2. A backend is told in the service's name, as a client is, if it is of its family. */
static __noinline int follow_late(struct packet *p, const struct flow *f)
{
	struct flow_key *key = p->key;
	struct draft *d = draft();
	int v;

	if (d && FAULT(201, dir_of(p->stamp) == DIR_REPLY, false) && !is_mixed(f)) {
		d->at = *key;
		d->at.daddr = f->saddr;
		p->key = &d->at;
	}
	v = answer_late(p);
	p->key = key;
	return v;
}

/* follow returns NEXT_STEP when the packet is to be forwarded by f, the entry at its key. */
static __always_inline int follow(struct packet *p, struct flow *f)
{
	struct stamp *at;

	if (p->bad)
		return DROP_MALFORMED;
	if (unlikely(p->ttl <= FAULT(39, 1, 0)))
		return follow_late(p, f);
	if (unlikely(state_of(p->stamp) == FLOW_RESET))
		return follow_ended(p, f);
	if (unlikely(eviction_of(p->stamp) == EVICT_ENDED) && dir_of(p->stamp) == DIR_FORWARD &&
	    FAULT(40, is_pure_syn(p), false)) {
		delete_pair(p, p->key, f, p->stamp);
		return NEXT_OPEN;
	}
	if (unlikely(must_check(p, f))) {
		int v = check(p, f);

		if (v != NEXT_STEP)
			return v;
	}
	if (FAULT(260, dry_run, false))
		return NEXT_STEP; /* the rest is for packets to come */
	tell(p, f);
	at = stamp_at(f);
	if (at)
		touch(p, at);
	return NEXT_STEP;
}
