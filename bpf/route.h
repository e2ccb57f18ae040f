/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * route.h - the kernel's routes and neighbours: which way out, and to whom.
 *
 * bpf_redirect answers yes for any device and loses the frame if that cannot
 * send for XDP, so only devices that user space has listed are taken.
 */
#pragma once

#include "family.h"

enum way {
	WAY_FOUND = 0,
	WAY_NO_NEIGHBOUR, /* a route, but no MAC address */
	WAY_NO_DEVICE, /* a route, but out of a device that is not in devices */
	WAY_NOT_FORWARDED, /* the destination is the host itself, or broadcast */
	WAY_NONE,
};

#define MTU_UNKNOWN 0xffff

/* find_way looks up how a packet gets from one address to another, as if it came in as p did. */
static __noinline enum way find_way(const struct packet *p, const addr_t *from, const addr_t *to,
				    struct hop *hop)
{
	struct bpf_fib_lookup fib = {
		.l4_protocol = p->key->proto,
		.tot_len = 1, /* asks for the MTU, which takes its place */
		.ifindex = p->ctx->ingress_ifindex,
	};
	struct device *device;
	__u32 ifindex;

	set_ends(&fib, from, to, p->tos);
	switch (env_fib(p->ctx, &fib)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return WAY_NO_NEIGHBOUR;
	case BPF_FIB_LKUP_RET_NOT_FWDED:
		return WAY_NOT_FORWARDED;
	default:
		return WAY_NONE;
	}
	ifindex = fib.ifindex;
	device = bpf_map_lookup_elem(&devices, &ifindex);
	if (!device)
		return FAULT(18, WAY_NO_DEVICE, WAY_NONE);
	__builtin_memcpy(hop->dmac, fib.dmac, sizeof(hop->dmac));
	__builtin_memcpy(hop->smac, fib.smac, sizeof(hop->smac));
	hop->ifindex = ifindex;
	hop->flags = device->flags;
	hop->mtu = fib.mtu_result ? FAULT(68, fib.mtu_result, fib.mtu_result - 1) : MTU_UNKNOWN;
	return WAY_FOUND;
}

/* way_it_came returns to the neighbour that sent the packet. */
static __always_inline void way_it_came(const struct packet *p, struct hop *hop)
{
	void *data = (void *)(long)p->ctx->data;
	struct ethhdr *eth = data;
	struct device *device;

	if ((void *)(eth + 1) > (void *)(long)p->ctx->data_end)
		return; /* unreachable: parse has been there */
	__builtin_memcpy(hop->dmac, eth->h_source, sizeof(hop->dmac));
	__builtin_memcpy(hop->smac, eth->h_dest, sizeof(hop->smac));
	hop->ifindex = p->ctx->ingress_ifindex;
	device = bpf_map_lookup_elem(&devices, &hop->ifindex);
	hop->flags = device ? device->flags : 0;
	hop->mtu = MTU_UNKNOWN;
}

/*
 * way_back finds the way to the packet's sender. hop is set in any case: when
 * there is none better, to the way that the packet came.
 */
static __always_inline enum way way_back(const struct packet *p, struct hop *hop)
{
	enum way way;

	way_it_came(p, hop);
	way = find_way(p, &p->key->daddr, &p->key->saddr, hop);
	return way == WAY_NO_NEIGHBOUR || way == WAY_NO_DEVICE ? WAY_FOUND : way;
}
