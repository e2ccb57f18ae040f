/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * flow.h - entries of the flow table, which come in pairs.
 *
 * A flow has an entry for each direction, its twins. Nothing ties them but
 * their tuples: packets that leave by one entry come back, turned round, to
 * the key of the other. The table forgets entries one by one, so a twin may be
 * missing, or its key may belong to another flow by now.
 */
#pragma once

#include "packet.h"

static __always_inline struct flow_key reversed(const struct flow_key *k)
{
	return (struct flow_key){
		.saddr = k->daddr,
		.daddr = k->saddr,
		.sport = k->dport,
		.dport = k->sport,
		.proto = k->proto,
	};
}

/* twin_key returns where the twin of f is. */
static __always_inline struct flow_key twin_key(const struct flow *f, __u8 proto)
{
	return (struct flow_key){
		.saddr = READ_ONCE(f->daddr),
		.daddr = READ_ONCE(f->saddr),
		.sport = READ_ONCE(f->dport),
		.dport = READ_ONCE(f->sport),
		.proto = proto,
	};
}

/* names says that the entry at key is the twin of f. */
static __always_inline bool names(const struct flow *f, const struct flow_key *key)
{
	return f->daddr == key->saddr && f->saddr == key->daddr && f->dport == key->sport &&
	       f->sport == key->dport;
}

/* counts says that f has not been given up: rule 2. */
static __always_inline bool counts(const struct packet *p, const struct flow *f)
{
	if (READ_ONCE(f->era) != FAULT(9, p->era, READ_ONCE(f->era)))
		return false;
	return tick_age(p->now, READ_ONCE(f->seen)) <= FAULT(10, READ_ONCE(f->idle), -1U);
}

/* is_live says that f's tuple must not be taken from it. */
static __always_inline bool is_live(const struct packet *p, const struct flow *f)
{
	__u8 state = READ_ONCE(f->state);

	return counts(p, f) && state != FLOW_CLOSED && state != FLOW_RESET;
}

/* find_twin returns the twin of f, the entry at key; NULL when it has none. */
static __always_inline struct flow *find_twin(const struct flow_key *key, const struct flow *f)
{
	struct flow_key at = twin_key(f, key->proto);
	struct flow *twin = bpf_map_lookup_elem(&flows, &at);

	return twin && names(twin, key) ? twin : NULL;
}

/* delete_pair deletes f, the entry at key, and its twin. f is not to be used after it. */
static __noinline void delete_pair(const struct flow_key *key, const struct flow *f)
{
	struct flow_key at = twin_key(f, key->proto);
	struct flow *twin = bpf_map_lookup_elem(&flows, &at);

	if (twin && names(twin, key))
		bpf_map_delete_elem(&flows, &at);
	bpf_map_delete_elem(&flows, key);
}

/* idle_of returns the time-out of a state, in ticks. */
static __always_inline __u32 idle_of(const struct control *c, __u8 proto, __u8 state)
{
	if (proto == IPPROTO_UDP)
		return c->idle[state == FLOW_NEW ? IDLE_UDP_NEW : IDLE_UDP_ESTABLISHED];
	if (state == FLOW_NEW)
		return c->idle[IDLE_TCP_NEW];
	return c->idle[state == FLOW_ESTABLISHED ? IDLE_TCP_ESTABLISHED : IDLE_TCP_FIN];
}
