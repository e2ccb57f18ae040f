/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * env.h - what the datapath asks the world outside of the packet and the maps.
 *
 * The test build puts bpf/test/env.h in this file's place: the same names,
 * answered from maps, and FAULT chooses the wrong expression where told to.
 */
#pragma once

/* FAULT marks an expression that the test build can make wrong; n is its number. */
#define FAULT(n, good, bad) (good)

/* env_now returns the tick. */
static __always_inline __u32 env_now(void)
{
	return bpf_jiffies64();
}

/* env_ktime returns CLOCK_MONOTONIC in ns. */
static __always_inline __u64 env_ktime(void)
{
	return bpf_ktime_get_ns();
}

/* env_fib returns BPF_FIB_LKUP_RET_* or a negative error. */
static __always_inline long env_fib(struct xdp_md *ctx, struct bpf_fib_lookup *params)
{
	return bpf_fib_lookup(ctx, params, sizeof(*params), 0);
}

static __always_inline int env_redirect(__u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* env_hold gives the frame, which has len bytes, to the agent, and says whether that takes it. */
static __always_inline bool env_hold(struct xdp_md *ctx, const struct fragment *key, __u32 len)
{
	struct held held = {.key = *key, .ifindex = ctx->ingress_ifindex, .len = len};

	return !bpf_perf_event_output(ctx, &holds, (__u64)len << 32 | BPF_F_CURRENT_CPU, &held,
				      sizeof(held));
}

/* env_tell tells the agent that the first fragment of key has come. */
static __always_inline void env_tell(struct xdp_md *ctx, const struct fragment *key)
{
	env_hold(ctx, key, 0);
}

/*
 * env_has_connection says that the host has a connection whose packets arrive as
 * key. Listeners are none, nor are connections that are over; of UDP, which has
 * no connections, nobody can tell.
 */
static __always_inline bool env_has_connection(struct xdp_md *ctx, const struct flow_key *key)
{
	struct bpf_sock_tuple tuple = {.ipv4 = {key->saddr, key->daddr, key->sport, key->dport}};
	struct bpf_sock *sk;
	bool has;

	if (key->proto != IPPROTO_TCP)
		return true;
	sk = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	has = sk->state != BPF_TCP_LISTEN && sk->state != BPF_TCP_TIME_WAIT;
	bpf_sk_release(sk);
	return has;
}
