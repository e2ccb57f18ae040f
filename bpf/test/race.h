/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* race.h - another CPU as a test wants it: takes the place of bpf/env/race.h. */
#pragma once

/* struct rival is an entry that another CPU makes, with its stamp. */
struct rival {
	struct flow flow;
	struct stamp stamp;
};

/* rivals: what another CPU puts at a key of flows just before the datapath would. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct rival);
	__uint(max_entries, 65536);
} rivals SEC(".maps");

/* overwrite gives f, whose stamp is at, what the rival says of a flow. Global, as locate is. */
__noinline int overwrite(struct flow *f, struct stamp *at, const struct rival *r)
{
	struct stamp busy = {.era = ERA_BUSY}, stamp;
	__u32 bucket;
	__u8 place;

	if (!f || !at || !r)
		return 0; /* unreachable */
	stamp = r->stamp;
	bucket = f->bucket;
	place = f->place;
	draft_event(f, word_of(*at), word_of(busy), false);
	settle(backend_of(f), service_of(f), word_of(*at), word_of(busy));
	draft_event(&r->flow, word_of(busy), word_of(stamp), false);
	settle(backend_of(&r->flow), service_of(&r->flow), word_of(busy), word_of(stamp));
	*f = r->flow;
	f->bucket = bucket;
	f->place = place;
	stamp.tag = at->tag;
	*at = stamp;
	return 0;
}

static __always_inline void env_race(const struct packet *p, const struct flow_key *key)
{
	struct rival *r = bpf_map_lookup_elem(&rivals, key);
	struct stamp *at, was;
	struct flow *f;

	if (!r || dry_run)
		return;
	f = find(key, &was);
	at = f ? stamp_at(f) : NULL;
	if (at)
		overwrite(f, at, r);
	else
		insert_now(&p->when, &r->flow, word_of(r->stamp));
}

/* first_rivals: fates that another CPU remembers just before a datagram begins to wait. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fragment);
	__type(value, struct fate);
	__uint(max_entries, 65536);
} first_rivals SEC(".maps");

static __always_inline void env_race_fragment(const struct fragment *key)
{
	struct fate *f = bpf_map_lookup_elem(&first_rivals, key);

	if (f)
		bpf_map_update_elem(&fragments, key, f, BPF_NOEXIST);
}
