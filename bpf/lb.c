//go:build ignore
/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "export.h"

SEC("xdp.frags")
int fairlead(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
