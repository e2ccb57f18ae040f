/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* affinity.h - a network of clients stays with its backend: rule 3, "affinity". */
#pragma once

#include "balance.h"

/* set_network sets the name of the network of key's client, and says whether its service is there. */
static __always_inline bool set_network(struct source *at, const struct flow_key *key,
					__u32 service)
{
	const struct service *s = bpf_map_lookup_elem(&services, &service);

	if (!s)
		return false; /* unreachable */
	at->service = service;
	at->net = masked(&key->saddr, &s->source_mask);
	return true;
}

/* tied_row returns the row of the backend that key's client stays with, or NO_BACKEND. Global, as locate is. */
__noinline __u32 tied_row(const struct moment *m, const struct flow_key *key, struct draft *d)
{
	const struct backend *b;
	struct source at = {};
	struct tie *tie;
	__u32 row;

	if (!m || !key || !d || !set_network(&at, key, d->forward.service))
		return NO_BACKEND; /* unreachable */
	tie = bpf_map_lookup_elem(&OWN(affinity), &at);
	if (!tie || tick_age(m, tie->tick) > FAULT(247, (__u64)d->affinity * m->hz, ~0ULL))
		return NO_BACKEND;
	row = tie->backend;
	b = bpf_map_lookup_elem(&backends, &row);
	if (!b || b->gen != FAULT(241, tie->gen, b->gen) || !b->weight ||
	    b->flags & FAULT(318, BACKEND_UNSURE, 0) ||
	    !can_serve(b, d->forward.service, d->all_up))
		return NO_BACKEND;
	d->tried[d->tries++ & (MAX_TRIES - 1)] = row;
	return row;
}

/* tie lets key's client stay with the backend that the draft has given it. Global, as locate is. */
__noinline int tie(const struct moment *m, const struct flow_key *key, const struct draft *d)
{
	struct source at = {};
	struct tie is;

	if (!m || !key || !d || !set_network(&at, key, d->forward.service))
		return 0; /* unreachable */
	is.backend = d->forward.backend;
	is.gen = d->forward.backend_gen;
	is.tick = m->now;
	if (FAULT(250, dry_run, false))
		return 0;
	return bpf_map_update_elem(&OWN(affinity), &at, &is, BPF_ANY);
}
