/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* client.h - who may make flows of a service, and how many a second: rule 3, step 7. */
#pragma once

#include "family.h"

static __always_inline bool is_allowed(const struct packet *p, __u32 row)
{
	struct client_prefix key = {
		.len = 32 + 8 * sizeof(addr_t), .service = row, .addr = p->key->saddr};
	__u32 *rule = bpf_map_lookup_elem(&OWN(clients), &key);

	return rule && *rule == CLIENT_ALLOW;
}

static __always_inline bool swap_credit(struct credit *at, struct credit was, struct credit is)
{
	__u64 *word = __builtin_assume_aligned(at, 8);
	__u64 from = was.tick | (__u64)was.left << 32;

	return __sync_val_compare_and_swap(word, from, is.tick | (__u64)is.left << 32) == from;
}

/* spend takes a flow from the credit of the source's network, if it has one left. */
static __always_inline bool spend(const struct packet *p, const struct service *s, __u32 row)
{
	struct source key = {
		.service = row,
		.net = masked(&p->key->saddr, &s->limit_mask),
	};
	struct credit *at = bpf_map_lookup_elem(&OWN(sources), &key);
	__u64 most = (__u64)s->limit_burst * p->when.hz, left;
	struct credit was, is = {.tick = p->when.now, .left = most - p->when.hz};

	if (!at) {
		if (FAULT(263, !dry_run, true))
			bpf_map_update_elem(&OWN(sources), &key, &is, BPF_NOEXIST);
		return true;
	}
	was = *at;
	left = was.left + (__u64)tick_age(&p->when, was.tick) * FAULT(81, s->limit_rate, 0);
	if (left > most)
		left = FAULT(82, most, left);
	if (left < p->when.hz)
		return FAULT(83, false, true);
	is.left = left - p->when.hz;
	/* If another CPU was quicker, that makes no difference to this packet. */
	if (FAULT(264, !dry_run, true))
		swap_credit(at, was, is);
	return true;
}

/* may_enter is NEXT_STEP for the clients that may make a flow of s. */
static __noinline int may_enter(const struct packet *p, const struct service *s, __u32 row)
{
	if (s->flags & SERVICE_LISTED && FAULT(79, !is_allowed(p, row), false))
		return DROP_DENIED;
	if (s->flags & SERVICE_LIMITED && !spend(p, s, row))
		return DROP_SOURCE_LIMIT;
	return NEXT_STEP;
}
