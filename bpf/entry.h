/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* entry.h - making entries of the flow table. */
#pragma once

#include "csum.h"
#include "flow.h"

/* addr_delta returns what the change of both addresses adds, not folded. */
static __always_inline __u64 addr_delta(const struct flow_key *from, const struct flow_key *to)
{
	return addr_change(&from->saddr, &to->saddr) + addr_change(&from->daddr, &to->daddr);
}

/* port_delta returns what the change of both ports adds, not folded. */
static __always_inline __u64 port_delta(const struct flow_key *from, const struct flow_key *to)
{
	return word_change(from->sport, to->sport) + word_change(from->dport, to->dport);
}

/* set_leaving says what becomes of packets that arrive as from: they leave as to. */
static __always_inline void set_leaving(struct flow *f, const struct flow_key *from,
					const struct flow_key *to)
{
	__u64 addr = addr_delta(from, to);

	f->saddr = to->saddr;
	f->daddr = to->daddr;
	f->sport = to->sport;
	f->dport = to->dport;
	f->ip_delta = fold(ip_delta_of(addr));
	f->l4_delta = fold(addr + port_delta(from, to));
}

/*
 * take_hop makes hop the way out of f. The MTU of one that leads into the other
 * family is kept apart, so that every packet looks too big to go on as it is. It
 * is written at once: another CPU may send packets by f meanwhile.
 */
static __always_inline void take_hop(struct flow *f, struct hop *hop)
{
	__u16 far_mtu = 0;

	if (is_mixed(f)) {
		far_mtu = hop->mtu;
		hop->mtu = FAULT(183, 0, hop->mtu);
	}
	WRITE_ONCE(f->far_mtu, far_mtu);
	f->hop = *hop;
}

/*
 * insert_twin inserts the draft's twin, that of the packet's entry, and returns
 * what insert does, but 0 as well if another CPU has found the entry without
 * one, and made it.
 */
static __noinline int insert_twin(const struct packet *p, struct stamp stamp)
{
	struct draft *d = draft();
	struct flow *twin;
	int err;

	if (!d)
		return -ENOSPC; /* unreachable */
	err = insert(p, &d->twin, stamp);
	if (err != -EEXIST)
		return err;
	twin = find(&d->twin.key, &stamp);
	return twin && names(twin, p->key) && counts(&p->when, twin, stamp) ? 0 : err;
}

/*
 * make_twin inserts the twin of f, the entry at the packet's key, which has this
 * stamp; hop is the twin's way out. It returns what insert_twin does.
 */
static __always_inline int make_twin(const struct packet *p, const struct flow *f,
				     struct stamp stamp, const struct hop *hop)
{
	struct draft *d = draft();
	struct flow *twin;

	if (!d)
		return -ENOSPC; /* unreachable */
	twin = &d->twin;
	*twin = *f;
	set_twin_key(&twin->key, f, p->key->proto);
	reverse(&d->at, p->key);
	twin->hop = *hop;
	twin->checked = p->when.now;
	twin->epoch = p->when.epoch;
	set_leaving(twin, &twin->key, &d->at);
	take_hop(twin, &twin->hop);
	stamp.seen = p->when.now;
	stamp.life ^= FAULT(19, DIR_FORWARD ^ DIR_REPLY, 0);
	if (FAULT(20, false, true))
		return 0;
	return insert_twin(p, stamp);
}
