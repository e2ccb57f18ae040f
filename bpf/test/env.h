/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * env.h - the world as a test wants it: takes the place of bpf/env/env.h.
 */
#pragma once

/* seeded_fault is the number of the one FAULT that is wrong; 0: none. Set before load. */
volatile const __u32 seeded_fault;

#define FAULT(n, good, bad) (seeded_fault == (n) ? (bad) : (good))

/* struct env is the one entry of the env map. */
struct env {
	__u64 ktime; /* what env_ktime returns */
	__u32 now; /* what env_now returns */
	__u32 egress; /* interface of the last redirect; written by the datapath */
	__u32 race; /* not 0: the rival's entry is inserted by env_race */
	__u32 fib_calls; /* look-ups; written by the datapath */
	struct flow_key rival_key;
	struct flow rival;
};

/* struct fib is what env_fib answers for a destination address. */
struct fib {
	__s32 result; /* BPF_FIB_LKUP_RET_* or a negative error */
	__u32 ifindex;
	__u8 dmac[6];
	__u8 smac[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct env);
	__uint(max_entries, 1);
} env SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __be32);
	__type(value, struct fib);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} env_fib_answers SEC(".maps");

static __always_inline struct env *env_entry(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&env, &zero);
}

static __always_inline __u32 env_now(void)
{
	struct env *e = env_entry();

	return e ? e->now : 0;
}

static __always_inline __u64 env_ktime(void)
{
	struct env *e = env_entry();

	return e ? e->ktime : 0;
}

/* env_fib answers NOT_FWDED for a destination that the test gave no answer for. */
static __always_inline long env_fib(struct xdp_md *ctx, struct bpf_fib_lookup *params)
{
	__be32 to = params->ipv4_dst;
	struct fib *answer = bpf_map_lookup_elem(&env_fib_answers, &to);
	struct env *e = env_entry();

	if (e)
		e->fib_calls++;
	if (!answer || params->family != 2 || params->ifindex != ctx->ingress_ifindex)
		return BPF_FIB_LKUP_RET_NOT_FWDED;
	if (answer->result == BPF_FIB_LKUP_RET_SUCCESS) {
		params->ifindex = answer->ifindex;
		__builtin_memcpy(params->dmac, answer->dmac, sizeof(params->dmac));
		__builtin_memcpy(params->smac, answer->smac, sizeof(params->smac));
	}
	return answer->result;
}

static __always_inline int env_redirect(__u32 ifindex)
{
	struct env *e = env_entry();

	if (e)
		e->egress = ifindex;
	return XDP_REDIRECT;
}

static __always_inline void env_race(void)
{
	struct env *e = env_entry();

	if (e && e->race)
		bpf_map_update_elem(&flows, &e->rival_key, &e->rival, BPF_ANY);
}
