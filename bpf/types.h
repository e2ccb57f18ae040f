/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * types.h - everything that Go and the kernel must agree on.
 *
 * Each struct here is a key or a value of a map. bpf2go turns each into a Go
 * type (loader/lb_bpfel.go), so this file and verdict.h have the only definitions there are.
 *
 * Addresses and ports are in network byte order (__be32, __be16), all other
 * integers in the host's. Padding is a named field and always zero: a hash map
 * compares every byte of its key. Times are in ticks (jiffies), cut to 32 bits;
 * compare them with tick_age(), which minds the wrap.
 */
#pragma once

#include "address.h"
#include "counters.h"
#include "event.h"
#include "told.h"
#include "verdict.h"

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* enum control_mode is the switch that every program of an instance reads first. */
enum control_mode {
	MODE_OFF = 0, /* every packet passes */
	MODE_DRAINING, /* known flows go on, new ones are the proxy's */
	MODE_ON,
};

/* enum idle says which time-out of struct control applies to a flow. */
enum idle {
	IDLE_TCP_NEW = 0,
	IDLE_TCP_ESTABLISHED,
	IDLE_TCP_FIN,
	IDLE_UDP_NEW,
	IDLE_UDP_ESTABLISHED,
	IDLE_MAX, /* number of time-outs; not a time-out */
};

/* enum special_era has the eras that control never has: of places that hold no entry. */
enum special_era {
	ERA_FREE = 0,
	ERA_MIN = 1, /* control's eras */
	ERA_LAST = 254,
	ERA_BUSY = 255, /* the place is being filled, or its entry deleted: see table.h */
};

/* STANDBY_LEASE is how long, in ns, standby flows hold without a heartbeat. */
#define STANDBY_LEASE 10000000000LL

/* struct control is the one entry of the control map. */
struct control {
	__u32 mode; /* enum control_mode */
	__u32 era; /* a flow of another era counts as absent; ERA_MIN to ERA_LAST */
	__u32 epoch; /* a flow checked under another epoch is checked again */
	__u32 hz; /* ticks in a second, never 0 while mode is not MODE_OFF */
	__u32 idle[IDLE_MAX]; /* ticks of silence that a flow survives */
	__u32 reply_limit; /* answers per second and CPU */
	__u16 snat_port; /* first source port of SERVICE_FULL_NAT */
	__u16 snat_ports; /* how many there are */
	__u16 mixed_port; /* the same of IPv4 addresses in flows6 */
	__u16 mixed_ports;
	__u64 heartbeat; /* CLOCK_MONOTONIC ns of the agent's last sign of life */
	__u64 loss_after; /* ns without heartbeat after which all backends count as up; 0: never */
	__u64 hash_a; /* odd and random: where a key stands in the flow table */
	__u64 hash_b; /* another one; all are the tables' as long as they live */
	__u64 hash_c; /* IPv6's keys are longer */
	__u64 hash_d;
	__u64 hash_e;
};

/* struct listener names one address, port and protocol that clients connect to. */
struct listener {
	addr_t addr;
	__be16 port;
	__u8 proto; /* IPPROTO_TCP or IPPROTO_UDP */
	__u8 pad;
};

/* enum address_use says what an address is to us: bits of a value of vips. */
enum address_use {
	ADDRESS_SERVICE = 1, /* clients connect to it */
	ADDRESS_BACKEND = 2, /* a backend of a service answers from it */
};

enum service_state {
	SERVICE_NONE = 0, /* the row is free */
	SERVICE_XDP, /* forwarded here */
	SERVICE_PROXY, /* every packet of a new flow is the user-space proxy's */
	SERVICE_ZONE, /* no service, but the slots and turns of one for clients of a zone */
};

enum service_flag {
	SERVICE_LOCAL = 1, /* the address is on this host, so the stack may have its packets */
	SERVICE_KEEP = 2, /* flows of a backend that is down go on */
	SERVICE_LISTED = 4, /* clients says who may make flows */
	SERVICE_LIMITED = 8, /* each network of clients may make so many flows a second */
	SERVICE_FULL_NAT = 16, /* backends see an address of ours instead of the client's */
	SERVICE_COOKIES = 32, /* above a rate SYNs are answered with cookies */
};

/* enum balance says how a service's backends are chosen: rule 3.10. */
enum balance {
	BALANCE_ROUND_ROBIN = 0, /* slots in turn */
	BALANCE_RANDOM, /* any slot */
	BALANCE_HASH, /* the slot that the flow's tuple hashes to */
	BALANCE_SOURCE_HASH, /* the slot that the client's network hashes to */
	BALANCE_P2C, /* of two random slots, the one with fewer connections */
	BALANCE_LEAST, /* of all slots, the one with the fewest connections */
};

/* struct service is a row of the services map. addr to proto are for people. */
struct service {
	__u64 slots; /* run of the slots map: offset << 32 | length */
	__u64 slots_all; /* the same as if every backend were up */
	struct address addr;
	struct address
		limit_mask; /* which part of a client's address is its network; IPv4's: word[3] */
	__u32 gen; /* grows with each new owner of the row */
	__be16 port;
	__be16 last_port;
	__u8 proto;
	__u8 state; /* enum service_state */
	__u8 flags; /* enum service_flag */
	__u8 balance; /* enum balance */
	__u32 limit_rate; /* flows per second */
	__u32 limit_burst; /* flows at once */
	__u32 cookie_above; /* SYNs per second */
	__u64 seed; /* of BALANCE_HASH and BALANCE_SOURCE_HASH */
	struct address
		source_mask; /* which part of a client's address is its network for BALANCE_SOURCE_HASH and affinity; IPv4's: word[3] */
	__u32 affinity; /* seconds that a network stays with its backend; 0: off */
	__u32 max_load; /* percent of the mean that a backend may have under BALANCE_HASH; 0: any */
	__u32 weights; /* sum of those of the backends in its slots or a zone's; for max_load */
	__u32 weights_all; /* the same of slots_all and the zones' */
	__u32 zones; /* row of its first, or next, SERVICE_ZONE + 1; 0: none */
	__u32 zone; /* number of a SERVICE_ZONE */
};

/* ZONES_MAX is how many rows of SERVICE_ZONE a service has at most. */
#define ZONES_MAX 32

/* ALL_SERVICES stands in the place of a service's row where clients says in which zone a network is. */
#define ALL_SERVICES (-1U)

/* struct client_prefix is a key of the clients map: a service's row and a network. */
struct client_prefix {
	__u32 len; /* 32, for the row, and the network's */
	__u32 service; /* or ALL_SERVICES */
	addr_t addr;
};

/* enum client_rule is the value of the clients map; that of ALL_SERVICES is the number of a zone. */
enum client_rule {
	CLIENT_DENY = 0,
	CLIENT_ALLOW,
};

/* struct source names a network of clients of a service. */
struct source {
	__u32 service;
	addr_t net;
};

/* struct credit is what a network may still do, in one aligned u64. */
struct credit {
	__u32 tick; /* when that was */
	__u32 left; /* flows * hz */
};

/* SYNS_HOT says that the second before had too many; a count with it is more than any other. */
#define SYNS_HOT 0x80000000

/* struct tie is what a network of clients was last given, a value of affinity. */
struct tie {
	__u32 backend;
	__u32 gen; /* of that */
	__u32 tick; /* when that was */
};

/* struct syns counts SYNs that would make flows of a service, in one aligned u64. */
struct syns {
	__u32 second; /* tick / hz */
	__u32 count; /* in that second, and SYNS_HOT */
};

enum backend_state {
	BACKEND_NONE = 0, /* the row is free */
	BACKEND_UP,
	BACKEND_DOWN,
};

/* enum backend_flag: bits of a backend's flags. */
enum backend_flag {
	BACKEND_UNSURE = 1, /* down, and up for those only whose zone is in a panic */
};

/* struct backend is a row of the backends map: one backend of one service. */
struct backend {
	struct address addr;
	__be16 port; /* 0: the port that the client asked for */
	__u8 state; /* enum backend_state */
	__u8 flags; /* enum backend_flag */
	__u32 gen; /* grows with each new owner of the row */
	__u32 service; /* row of its service */
	__u32 weight; /* its share of connections; at least 1 */
	__u32 sources; /* run of the snat map: offset << 16 | length; of SERVICE_FULL_NAT */
};

/* struct flow_key is a packet's own 5-tuple. */
struct flow_key {
	addr_t saddr;
	addr_t daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

/* enum flow_state is shared by the two entries of a flow. From FLOW_CLOSED on, it is over. */
enum flow_state {
	FLOW_NEW = 0, /* no answer yet */
	FLOW_ANSWERED, /* by the backend; the client's address may be forged */
	FLOW_ESTABLISHED,
	FLOW_FIN, /* one side has sent a FIN */
	FLOW_CLOSED, /* both have, or were reset; a SYN starts anew */
	FLOW_RESET, /* ended here: the next packet is answered with a reset */
	FLOW_ABORTED_FORWARD, /* the client has sent a reset, or somebody in its name */
	FLOW_ABORTED_REPLY, /* the same of the backend */
};

/* struct hop is a way out: the Ethernet addresses and the interface. */
struct hop {
	__u8 dmac[6];
	__u8 smac[6];
	__u32 ifindex;
	__u16 flags; /* enum device_flag, of the interface */
	__u16 mtu; /* longest IP packet, in bytes */
};

/* struct flow is one direction of a flow: what becomes of its packets. */
struct flow {
	struct flow_key key; /* the tuple that they arrive with */
	__u32 checked; /* tick of the last check */
	__u32 epoch; /* control's at that time */
	addr_t saddr; /* the tuple that they leave with */
	addr_t daddr;
	__be16 sport;
	__be16 dport;
	struct hop hop;
	__u16 l4_delta; /* what translation adds to the TCP or UDP checksum */
	__u16 ip_delta; /* the same for the IP header, TTL included; IPv6's has no checksum */
	__u32 service;
	__u32 service_gen;
	__u32 backend;
	__u32 backend_gen;
	__u32 idle; /* ticks of silence that it survives */
	__u32 answer; /* what the client must acknowledge, at least */
	__u32 bucket; /* where it is itself */
	__u8 place;
	__u8 pad;
	__u16 far_mtu; /* hop's, if packets leave in the other family; hop.mtu is 0 then */
	__u8 pad2[4];
};

#define LIFE_UDP 0x40

/*
 * struct stamp is what a place's entry is like, in one aligned u64 that is only
 * changed as a whole, but for seen. What was judged by one stamp may only be
 * deleted while it still has it, as places are used again at once.
 */
struct stamp {
	__u32 seen; /* tick of the last packet, or of the twin's last check */
	__u16 tag; /* of the key */
	__u8 era; /* control's when the entry was made, or enum special_era */
	__u8 life; /* enum flow_dir | fins << 1 | enum flow_state << 3 | LIFE_UDP; fins has a bit 1 << dir */
};

/* BUCKET_PLACES is how many entries a bucket holds. */
#define BUCKET_PLACES 8

/* struct bucket is a part of the flow table: see table.h. */
struct bucket {
	struct stamp stamps[BUCKET_PLACES];
	struct flow places[BUCKET_PLACES];
};

/* LOCKS is the number of locks, a power of two. */
#define LOCKS 4096

/* enum eviction says what kind of entry gave its place to another: index of evictions. */
enum eviction {
	EVICT_UNANSWERED = 0, /* or answered to a client that has not said a word since */
	EVICT_ENDED,
	EVICT_SILENT,
	EVICT_MAX, /* number of kinds; not a kind */
};

/* struct moment is when a packet came, and what control was like then. */
struct moment {
	__u32 hz;
	__u32 now; /* tick */
	__u32 era; /* control's, as this and epoch were when the packet came */
	__u32 epoch; /* so what changes from then on makes the next packet check again */
};

/* struct search is the search for a place for a key: the best one so far. */
struct search {
	struct flow_key key;
	__u64 score; /* the less, the better */
	struct stamp stamp;
	struct moment when;
	__u32 bucket;
	__u32 place;
	__u16 tag;
	__u16 pad[3];
};

/* struct draft is a flow in the making: what the stack has no room for. */
struct draft {
	struct flow forward;
	struct flow twin;
	struct search search;
	struct flow_key key; /* the packet's */
	struct flow_key to; /* the tuple to leave with */
	struct flow_key at; /* where a twin is looked for */
	struct hop back; /* the way to the client */
	__u32 flags; /* enum service_flag */
	__u32 syn[15]; /* a TCP header, options included */
	__u32 affinity; /* seconds that a network stays with its backend */
	__u64 run; /* of slots */
	__u64 hash; /* what the next slot is taken by, if the service has it so */
	__u32 all_up; /* whether backends that are down count as up */
	__u32 tries; /* so far */
	__u32 tried[4]; /* the rows of backends that these took */
	__u32 turns; /* the row of services whose turns it takes */
	__u32 pad;
	__u64 chunk[8]; /* of a datagram that is being summed up */
	struct event event; /* of the entry whose stamp is about to change */
};

/* struct fragment names a datagram that comes in fragments: a key of fragments. */
struct fragment {
	struct address saddr;
	struct address daddr;
	__be32 id; /* IPv4's has 16 bits */
	__u8 proto;
	__u8 pad[3];
};

/* struct fate is what became of a datagram's first fragment. */
struct fate {
	__be16 sport; /* these of one that was forwarded */
	__be16 dport;
	__u32 tick; /* when that was */
	__u8 proto; /* as the ports */
	__u8 verdict; /* of the others too; HOLD_FRAGMENT: it has not come */
	__u8 pad[2];
};

/* struct held is what the agent gets with a frame to hold or, without one, when a first one has come. */
struct held {
	struct fragment key;
	__u32 ifindex; /* where the frame came in */
	__u32 len; /* bytes of the frame; 0: none */
};

enum device_flag {
	DEVICE_TX = 1, /* XDP_TX works: the far end notices frames that are sent back */
};

/* struct device says that XDP may send frames out of an interface. */
struct device {
	__u32 flags; /* enum device_flag */
};

/* struct replies limits what one CPU answers in a second. */
struct replies {
	__u32 second; /* tick / hz */
	__u32 count;
};

#pragma clang diagnostic pop
