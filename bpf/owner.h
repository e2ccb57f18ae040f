/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* owner.h - whose connection an entry of the flow table is. */
#pragma once

#include "types.h"

/*
 * settle_counts counts what it means for a backend and its service that the stamp of
 * an entry has changed; they are what backend_of and service_of said of it before.
 */
__noinline int settle_counts(__u64 backend, __u64 service, __u64 was, __u64 is);

/*
 * draft_event makes the event of f, whose stamp is about to change from was to is;
 * evicted says that its place is to be another's. It comes right before settle,
 * which announces the event.
 */
__noinline int draft_event(const struct flow *f, __u64 was, __u64 is, bool evicted);

/* announce writes the event that was drafted, if there is one. */
__noinline int announce(void);

/*
 * settle is settle_counts and announce, one after the other: the stack has no room for
 * one that is called by the other.
 */
static __always_inline void settle(__u64 backend, __u64 service, __u64 was, __u64 is)
{
	settle_counts(backend, service, was, is);
	announce();
}

/* backend_of returns f's backend: its row, and its generation in the upper half. */
static __always_inline __u64 backend_of(const struct flow *f)
{
	return READ_ONCE(f->backend) | (__u64)READ_ONCE(f->backend_gen) << 32;
}

/* service_of returns the same of its service. */
static __always_inline __u64 service_of(const struct flow *f)
{
	return READ_ONCE(f->service) | (__u64)READ_ONCE(f->service_gen) << 32;
}
