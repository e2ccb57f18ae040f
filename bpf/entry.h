/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* entry.h - making entries of the flow table. */
#pragma once

#include "csum.h"
#include "flow.h"

/* set_leaving says what becomes of packets that arrive as from: they leave as to. */
static __always_inline void set_leaving(struct flow *f, const struct flow_key *from,
					const struct flow_key *to)
{
	__u64 addr = addr_delta(from, to);

	f->saddr = to->saddr;
	f->daddr = to->daddr;
	f->sport = to->sport;
	f->dport = to->dport;
	f->ip_delta = fold(addr + TTL_DELTA);
	f->l4_delta = fold(addr + port_delta(from, to));
}

/*
 * make_twin inserts the twin of f, the entry at the packet's key, which has this
 * stamp; hop is the twin's way out. It returns what insert does.
 */
static __always_inline int make_twin(const struct packet *p, const struct flow *f,
				     struct stamp stamp, const struct hop *hop)
{
	__u8 dir = dir_of(stamp) ^ FAULT(19, DIR_FORWARD ^ DIR_REPLY, 0);
	struct flow_key to = reversed(&p->key);
	struct draft *d = draft();
	struct flow *twin;

	if (!d)
		return -ENOSPC; /* unreachable */
	twin = &d->twin;
	*twin = *f;
	twin->key = twin_key(f, p->key.proto);
	twin->hop = *hop;
	twin->checked = p->when.now;
	twin->epoch = p->when.epoch;
	set_leaving(twin, &twin->key, &to);
	stamp.seen = p->when.now;
	stamp.life = life_of(dir, fins_of(stamp), state_of(stamp));
	if (FAULT(20, false, true))
		return 0;
	return insert(p, twin, stamp);
}
