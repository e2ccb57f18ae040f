/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* lock.h - who inserts into a part of the flow table is alone: rule 8. A dry run locks nobody out. */
#pragma once

#include "packet.h"

#define LOCK_TRIES 1024

static __always_inline bool lock(__u32 *l)
{
	if (dry_run)
		return true;
#pragma clang loop unroll(disable)
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (!__sync_val_compare_and_swap(l, 0, 1))
			return true;
	}
	return false;
}

static __always_inline void unlock(__u32 *l)
{
	if (!dry_run)
		__sync_lock_test_and_set(l, 0);
}
