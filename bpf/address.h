/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* address.h - addresses in maps: a part of what Go and the kernel must agree on, see types.h. */
#pragma once

/* struct address is one of either family; IPv4's are written as ::ffff:a.b.c.d. */
struct address {
	__be32 word[4];
};

/*
 * An addr_t is an address as a program has it: three programs are made from one
 * text, of which two are wide: they know addresses of both families. See family.h.
 */
#if defined(IPV6) || defined(MIXED)
#define WIDE
typedef struct address addr_t;
#else
typedef __be32 addr_t;
#endif
