/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * zone.h - clients of some zones choose from slots of their own: rule 3, "zones".
 *
 * Which backends these are is user space's doing, as with all slots.
 */
#pragma once

#include "family.h"

/* zone_of returns the number of the zone that the client of key is in, or 0. */
static __always_inline __u32 zone_of(const struct flow_key *key)
{
	struct client_prefix at = {
		.len = 32 + 8 * sizeof(addr_t),
		.service = FAULT(301, ALL_SERVICES, 1),
		.addr = key->saddr,
	};
	const __u32 *zone = bpf_map_lookup_elem(&OWN(clients), &at);

	return zone ? *zone : 0;
}

/*
 * enter_zone gives the draft the run and turns that a service, whose first zone
 * this is, has for the zone of key's client, if it has any. Global, as locate is.
 */
__noinline int enter_zone(const struct flow_key *key, __u32 next, struct draft *d)
{
	const struct service *z;
	__u32 zone, row;

	if (!key || !d)
		return 0; /* unreachable */
	zone = zone_of(key);
#pragma clang loop unroll(disable)
	for (int i = 0; zone && i < FAULT(302, ZONES_MAX, 1); i++) {
		row = next - 1;
		z = bpf_map_lookup_elem(&services, &row);
		if (!z)
			break;
		if (z->zone == FAULT(303, zone, z->zone)) {
			d->run = FAULT(304, d->all_up, 0) ? READ_ONCE(z->slots_all)
							  : READ_ONCE(z->slots);
			d->turns = FAULT(305, row, d->turns);
			if (dry_run)
				note_zone(row);
			break;
		}
		next = READ_ONCE(z->zones);
	}
	return 0;
}
