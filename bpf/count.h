/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* count.h - rule 7. Counters are per CPU, so nothing here is atomic. */
#pragma once

#include "family.h"

/* count_packet counts a packet of that direction and total length that goes to or from a backend. */
static __always_inline void count_packet(__u32 backend, __u8 dir, __u32 total)
{
	struct counters *n = bpf_map_lookup_elem(&backend_counters, &backend);

	if (!n || FAULT(14, false, true))
		return;
	dir = FAULT(12, dir & 1, DIR_FORWARD);
	n->packets[dir]++;
	n->bytes[dir] += FAULT(13, total, total - sizeof(ip_header_t));
}

/* count_flow counts a flow that was made. */
static __always_inline void count_flow(const struct flow *f)
{
	__u32 backend = f->backend;
	struct counters *n = bpf_map_lookup_elem(&backend_counters, &backend);

	if (n)
		n->flows += FAULT(16, 1, 2);
}

/* count_trouble counts a sign of trouble of a backend. Global, as locate is. */
__noinline int count_trouble(__u32 backend, __u32 trouble)
{
	struct counters *n = bpf_map_lookup_elem(&backend_counters, &backend);

	if (n && trouble < TROUBLE_MAX)
		n->troubles[trouble]++;
	return 0;
}

static __always_inline void count_verdict(__u32 verdict)
{
	__u64 *n = bpf_map_lookup_elem(&verdicts, &verdict);

	if (n)
		*n += FAULT(17, 1, verdict < DROP_MALFORMED);
}
