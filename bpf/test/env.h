/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * env.h - the world as a test wants it: takes the place of bpf/env/env.h.
 */
#pragma once

/* seeded_fault is the number of the one FAULT that is wrong; 0: none. Set before load. */
volatile const __u32 seeded_fault;

#define FAULT(n, good, bad) (seeded_fault == (n) ? (bad) : (good))

__u64 world_ktime; /* what env_ktime returns */
__u32 world_now; /* what env_now returns */
__u32 world_random; /* what the next random number is made of; written by the datapath */
__u32 world_cookies; /* whether the kernel makes cookies */
__u32 world_egress; /* interface of the last redirect; written by the datapath */

__u32 world_agent; /* whether there is one */
__u32 world_held; /* frames that it got; written by the datapath */
__u32 world_told; /* first fragments that it was told of; written by the datapath */
struct fragment world_fragment; /* the last of either; written by the datapath */

/* struct fib is what env_fib answers for a destination address. */
struct fib {
	__s32 result; /* BPF_FIB_LKUP_RET_* or a negative error */
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
	__u16 mtu;
	__u16 pad;
};

/* fibs: destination address -> the answer; NOT_FWDED where there is none. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, addr_t);
	__type(value, struct fib);
	__uint(max_entries, 65536);
} fibs SEC(".maps");

/* connections: those of the host, by the tuple of what arrives -> whether they are over. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, __u32);
	__uint(max_entries, 65536);
} connections SEC(".maps");

static __always_inline __u32 env_now(void)
{
	return world_now;
}

static __always_inline __u32 env_random(void)
{
	world_random = world_random * 1664525 + 1013904223;
	return world_random << 16 | world_random >> 16;
}

static __always_inline __u64 env_ktime(void)
{
	return world_ktime;
}

static __always_inline addr_t fib_end(const struct bpf_fib_lookup *fib);

static __always_inline long env_fib(struct xdp_md *ctx, struct bpf_fib_lookup *params)
{
	addr_t to = fib_end(params);
	struct fib *answer = bpf_map_lookup_elem(&fibs, &to);

	if (!answer || params->tot_len != 1 || params->ifindex != ctx->ingress_ifindex)
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	if (answer->result == BPF_FIB_LKUP_RET_SUCCESS) {
		params->ifindex = answer->ifindex;
		params->mtu_result = answer->mtu;
		__builtin_memcpy(params->dmac, answer->dmac, sizeof(params->dmac));
		__builtin_memcpy(params->smac, answer->smac, sizeof(params->smac));
	}
	return answer->result;
}

static __always_inline int env_redirect(__u32 ifindex)
{
	world_egress = ifindex;
	return XDP_REDIRECT;
}

static __always_inline bool env_hold(struct xdp_md *ctx, const struct fragment *key, __u32 len)
{
	if (!world_agent || len != bpf_xdp_get_buff_len(ctx))
		return false;
	if (dry_run)
		return true;
	world_fragment = *key;
	world_held++;
	return true;
}

static __always_inline void env_tell(struct xdp_md *ctx, const struct fragment *key)
{
	(void)ctx;
	world_fragment = *key;
	world_told++;
}

static __always_inline __u32 env_connection(struct xdp_md *ctx, const struct flow_key *key)
{
	__u32 *over = bpf_map_lookup_elem(&connections, key);

	(void)ctx;
	if (!over)
		return 0;
	return *over ? BPF_TCP_TIME_WAIT : BPF_TCP_ESTABLISHED;
}

/* COOKIE_ADDRS is where the addresses are in an IP header, COOKIE_WORDS how long one is. */
#ifdef IPV6
#define COOKIE_ADDRS 8
#define COOKIE_WORDS 4
#else
#define COOKIE_ADDRS 12
#define COOKIE_WORDS 1
#endif

/* cookie_of returns a cookie for a SYN of this number, but for the last two bits. */
static __always_inline __u32 cookie_of(const void *ip, const struct tcphdr *tcp, __u32 seq)
{
	const __be32 *from = ip + COOKIE_ADDRS, *to = from + COOKIE_WORDS;
	__u32 sum = 5 * bpf_ntohs(tcp->source) + 7 * bpf_ntohs(tcp->dest) + 9 * seq;

#pragma unroll
	for (__u32 i = 0; i < COOKIE_WORDS; i++)
		sum += bpf_ntohl(from[i]) + 3 * bpf_ntohl(to[i]);
	return sum * 0x9e3779b1 & ~3U;
}

/* The last two bits are about the options, as those of the kernel's cookies are. */
static __always_inline __s64 env_make_cookie(void *ip, struct tcphdr *tcp, __u32 len)
{
	const __u8 *bytes = (const __u8 *)tcp;
	__u32 sum = 0;

	if (!world_cookies || len != tcp->doff * 4 || len > 60)
		return -1;
	for (__u32 i = sizeof(*tcp); i < 60 && i < len; i++)
		sum += bytes[i];
	return cookie_of(ip, tcp, bpf_ntohl(tcp->seq)) | (sum & 3);
}

static __always_inline bool env_is_cookie(void *ip, struct tcphdr *tcp)
{
	__u32 want = cookie_of(ip, tcp, bpf_ntohl(tcp->seq) - 1);

	return ((bpf_ntohl(tcp->ack_seq) - 1) & ~3U) == want;
}
