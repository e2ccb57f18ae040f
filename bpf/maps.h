/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * maps.h - every map of the datapath: its key, its value and who writes it.
 *
 * Sizes marked "set at load" are what an empty configuration gets.
 */
#pragma once

#include "types.h"

/*
 * OWN is a map whose keys are addresses, so that there are two: the wide programs'
 * is called NAME6. All others are one for all.
 */
#ifdef WIDE
#define OWN(name) name##6
#else
#define OWN(name) name
#endif

/* control: written by user space through mmap, read first by every packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct control);
	__uint(max_entries, 1);
} control SEC(".maps");

/* listeners: what clients connect to -> row of services. Set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct listener);
	__type(value, __u32);
	__uint(max_entries, 16);
} OWN(listeners) SEC(".maps");

/*
 * vips: the addresses of services and backends -> enum address_use, for packets
 * without readable ports. Set at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, addr_t);
	__type(value, __u32);
	__uint(max_entries, 16);
} OWN(vips) SEC(".maps");

#ifdef MIXED
/* vips of fairlead, which hands packets over: rule 12.2. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, __u32);
	__uint(max_entries, 16);
} vips SEC(".maps");
#endif

/* services, backends: rows written by user space. Set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct service);
	__uint(max_entries, 16);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct backend);
	__uint(max_entries, 16);
} backends SEC(".maps");

/* slots: rows of backends; struct service says which run is whose. Set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 16);
} slots SEC(".maps");

/* snat: source addresses of SERVICE_FULL_NAT, written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct address);
	__uint(max_entries, 1024);
} snat SEC(".maps");

/* turns: the round robin's position, by row of services; never written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
} turns SEC(".maps");

/* syns: by row of services; never written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct syns);
	__uint(max_entries, 16);
} syns SEC(".maps");

/* backend_counters: by row. Set at load, with backends. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counters);
	__uint(max_entries, 16);
} backend_counters SEC(".maps");

/*
 * backend_conns, service_conns: by row. Written by the datapath; user space takes
 * away what it frees in flows. Set at load, with backends and services.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct connections);
	__uint(max_entries, 16);
} backend_conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct connections);
	__uint(max_entries, 16);
} service_conns SEC(".maps");

/*
 * verdicts: packets by enum verdict. Larger than VERDICT_MAX, so that a new
 * verdict fits the map that an older version pinned.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 64);
} verdicts SEC(".maps");

_Static_assert(VERDICT_MAX <= 64, "verdicts is too small");

/*
 * flows: buckets of entries, both directions of each flow. Written by the
 * datapath; user space frees places. Set at load, to a power of two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bucket);
	__uint(max_entries, 256);
} OWN(flows) SEC(".maps");

/* flow_shift is 64 - log2(buckets of flows). Set at load. */
volatile const __u32 flow_shift = 56;

/*
 * dry_run says that packets leave no trace in what instances share: rule 14.
 * Set at load.
 */
volatile const bool dry_run;

/* locks: each is for many buckets; who holds one is about to insert. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, LOCKS);
} locks SEC(".maps");

/* evictions: entries that gave their places to others, by enum eviction. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
} evictions SEC(".maps");

/* events: flows that have begun or ended, each a struct event, for the flow log: rule 15. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
} events SEC(".maps");

/* event_sample: of how many flows one is told of; 0: none. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} event_sample SEC(".maps");

/* event_counts: events that were written or lost, by enum event_count. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
} event_counts SEC(".maps");

/* drafts: each CPU's flow in the making. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct draft);
	__uint(max_entries, 1);
} drafts SEC(".maps");

/*
 * clients: row and network -> enum client_rule, ALL_SERVICES and network -> number
 * of a zone. Written by user space. Set at load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct client_prefix);
	__type(value, __u32);
	__uint(max_entries, 16);
} OWN(clients) SEC(".maps");

/* sources: what networks of clients may still do, written by the datapath. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct source);
	__type(value, struct credit);
	__uint(max_entries, 65536);
} OWN(sources) SEC(".maps");

/* affinity: the backends that networks of clients stay with, written by the datapath. Set at load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct source);
	__type(value, struct tie);
	__uint(max_entries, 16);
} OWN(affinity) SEC(".maps");

/* fragments: what became of datagrams' first fragments, written by the datapath. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment);
	__type(value, struct fate);
	__uint(max_entries, 32768);
} fragments SEC(".maps");

/* holds: frames for the agent, each after a struct held. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} holds SEC(".maps");

/* standby: UDP flows of the user-space proxy, written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, 65536);
} OWN(standby) SEC(".maps");

/* devices: ifindex -> interfaces that XDP may send out of, written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct device);
	__uint(max_entries, 4096);
} devices SEC(".maps");

/* replies: what each CPU has answered in the running second. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct replies);
	__uint(max_entries, 1);
} replies SEC(".maps");
