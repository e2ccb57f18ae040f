/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* ends.h - the addresses of a header that has them as maps do. */
#pragma once

static __always_inline addr_t source_of(const ip_header_t *ip)
{
	return ip->saddr;
}

static __always_inline addr_t destination_of(const ip_header_t *ip)
{
	return ip->daddr;
}

/* set_source and set_destination replace the addresses of a header. */
static __always_inline void set_source(ip_header_t *ip, const addr_t *addr)
{
	ip->saddr = *addr;
}

static __always_inline void set_destination(ip_header_t *ip, const addr_t *addr)
{
	ip->daddr = *addr;
}
