/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * packet.h - what the datapath knows of the packet at hand.
 *
 * Rule numbers in comments, here and in the other headers, are those of
 * docs/datapath.md.
 */
#pragma once

#include "types.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* READ_ONCE is for what another CPU may change meanwhile: one load, one truth. */
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))

/*
 * COPY copies n bytes, a constant, as words of four: what is stored in smaller
 * pieces than it is loaded in later makes the CPU wait.
 */
#define COPY(to, from, n) \
	__builtin_memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), n)

/* A step that has not decided the packet's verdict says what comes next. */
enum {
	NEXT_STEP = VERDICT_MAX, /* the step after it */
	NEXT_BUCKET, /* look into the flow table's other one */
	NEXT_OPEN, /* rule 3: make a flow */
	NEXT_ICMP, /* rule 9 */
	NEXT_LATER, /* rule 12: a later fragment */
	NEXT_WINNER, /* another CPU was first with the same flow */
	NEXT_FAMILY, /* an error about a flow between families */
	NEXT_PROGRAM, /* may be fairlead46's */
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

struct packet {
	struct xdp_md *ctx;
	const struct control *control;
	struct moment when;
	struct flow_key *key;
	struct stamp stamp; /* of the entry at key, when it was found */
	__u32 egress; /* interface, once it is known */
	__be32 id; /* IP's, of a datagram that comes in fragments */
	__u32 total; /* IP total length */
	__u32 rest; /* what of it follows the IP and extension headers */
	__u16 part; /* a fragment's offset in bytes, and 1 if more follow; of IPv6 only, as says and l4 */
	__u16 l4; /* where rest is, seen from the IP header; the verifier knows nothing of it here */
	__u8 proto; /* and what it is */
	__u8 says; /* what a fragment's header says it begins with */
	__u8 mode; /* control's */
	bool first; /* the first fragment of a datagram */
	__u8 ttl;
	__u8 tos;
	__u8 flags; /* enum tcp_flag; 0 of a bad header and of UDP */
	bool bad; /* rule 1.4 */
	__u8 host; /* env_connection's answer, once it was asked for */
};

/* has_ports says that a protocol is TCP or UDP. */
static __always_inline bool has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* is_pass says that a verdict leaves the packet to the host's stack. */
static __always_inline bool is_pass(__u32 verdict)
{
	return verdict <= PASS_STANDBY || verdict == PASS_COOKIE;
}

static __always_inline bool is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* type_after_tags returns where the type of what a frame holds is, after up to two VLAN tags. */
static __always_inline __be16 *type_after_tags(void *data, const void *end)
{
	__be16 *type = data + 12;

	for (int tags = 0; tags < 2; tags++) {
		if ((void *)(type + 1) > end)
			return NULL;
		if (!is_tag(*type))
			break;
		type += 2;
	}
	return (void *)(type + 1) > end ? NULL : type;
}

/* write_proto writes the protocol of a key, and the padding after it. */
static __always_inline void write_proto(struct flow_key *key, __u8 proto)
{
	*(__u32 *)&key->proto = proto;
}

_Static_assert(offsetof(struct flow_key, proto) % 4 == 0 &&
		       sizeof(struct flow_key) == offsetof(struct flow_key, proto) + 4 &&
		       __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "write_proto writes the protocol and the padding as one word");

/* is_pure_syn says that the packet asks for a new connection and for nothing else. */
static __always_inline bool is_pure_syn(const struct packet *p)
{
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* this_moment is for who has read control's mode: a new era begins before that changes. */
static __always_inline struct moment this_moment(const struct control *c)
{
	return (struct moment){
		.hz = c->hz,
		.now = env_now(),
		.era = READ_ONCE(c->era),
		.epoch = READ_ONCE(c->epoch),
	};
}

#define AHEAD 60 /* seconds for which a tick is of the near future */

/* tick_age returns how long ago t was; a tick from another CPU's near future is now. */
static __always_inline __u32 tick_age(const struct moment *m, __u32 t)
{
	return t - m->now <= FAULT(1, AHEAD * m->hz, 0) ? 0 : m->now - t;
}

/* silence returns the ns since the agent's last sign of life; below 0 if that came just now. */
static __always_inline __s64 silence(const struct control *c)
{
	return env_ktime() - READ_ONCE(c->heartbeat);
}

/* all_count_as_up is rule 6: the agent is lost, and that shall help every backend. */
static __always_inline bool all_count_as_up(const struct control *c)
{
	__u64 loss_after = READ_ONCE(c->loss_after);

	if (!FAULT(2, loss_after, 0))
		return false;
	return silence(c) > (__s64)loss_after;
}
