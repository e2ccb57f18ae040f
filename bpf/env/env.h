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

/* env_random returns a number that nobody foresees. */
static __always_inline __u32 env_random(void)
{
	return bpf_get_prandom_u32();
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

	if (dry_run)
		return true; /* nobody can be asked without giving the frame away */
	return !bpf_perf_event_output(ctx, &holds, (__u64)len << 32 | BPF_F_CURRENT_CPU, &held,
				      sizeof(held));
}

/* env_tell tells the agent that the first fragment of key has come. */
static __always_inline void env_tell(struct xdp_md *ctx, const struct fragment *key)
{
	env_hold(ctx, key, 0);
}

/* These differ with the family: see ipv4.h. */
static __always_inline __u32 set_tuple(struct bpf_sock_tuple *tuple, const struct flow_key *key);
static __always_inline __s64 kernel_cookie(void *ip, struct tcphdr *tcp, __u32 len);
static __always_inline long check_cookie(void *ip, struct tcphdr *tcp);

/*
 * env_connection returns BPF_TCP_* of the host's connection whose packets arrive
 * as key, 0 if it has none: listeners are none, one in TIME_WAIT still is.
 */
static __always_inline __u32 env_connection(struct xdp_md *ctx, const struct flow_key *key)
{
	struct bpf_sock_tuple tuple = {};
	__u32 len = set_tuple(&tuple, key);
	struct bpf_sock *sk;
	__u32 state;

	sk = bpf_skc_lookup_tcp(ctx, &tuple, len, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state == BPF_TCP_LISTEN ? 0 : state;
}

/* env_make_cookie returns the cookie for a SYN, whose TCP header has len bytes, or less than 0. */
static __always_inline __s64 env_make_cookie(void *ip, struct tcphdr *tcp, __u32 len)
{
	return kernel_cookie(ip, tcp, len);
}

/* env_is_cookie says that a segment acknowledges a cookie. */
static __always_inline bool env_is_cookie(void *ip, struct tcphdr *tcp)
{
	return !check_cookie(ip, tcp);
}
