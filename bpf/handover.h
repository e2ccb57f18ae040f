/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * handover.h - packets that another program goes on with. Who may hand over
 * enters slower, so there are programs that do not.
 */
#pragma once

#include "packet.h"

/* enum handover says to whom a program may hand over. */
enum handover {
	HANDS_NOTHING = 0,
	HANDS_IPV6, /* to fairlead6, what is IPv6's */
	HANDS_MIXED, /* and to fairlead46, what else this program does not know */
};

#ifdef WIDE
static __always_inline void hand_ipv6(struct xdp_md *ctx)
{
	(void)ctx;
}

static __always_inline void hand_mixed(struct xdp_md *ctx)
{
	(void)ctx;
}
#else

/* families: the programs fairlead6 and fairlead46, if they are there. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 2);
} families SEC(".maps");

/* hand_ipv6 lets fairlead6 go on with what is its own. It does not return then. */
static __always_inline void hand_ipv6(struct xdp_md *ctx)
{
	__be16 *type = type_after_tags((void *)(long)ctx->data, (void *)(long)ctx->data_end);

	if (type && *type == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(ctx, &families, 0);
}

/* hand_mixed lets fairlead46 go on. It does not return then. */
static __always_inline void hand_mixed(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &families, 1);
}
#endif
