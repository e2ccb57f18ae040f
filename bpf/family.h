/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * family.h - the family of packets that this program is for.
 *
 * Three programs are made from one text: that of IPv4, that of IPv6, and a
 * second one for packets of IPv4, which knows addresses of both families. What
 * differs between headers stands in ipv4.h and ipv6.h, what differs between
 * addresses in narrow.h, wide.h and mixed.h, under the same names; everything
 * else is shared.
 */
#pragma once

#define ANSWER_TTL 64 /* of packets of our own */

#ifdef IPV6
#include "ipv6.h"
#else
#include "ipv4.h"
#endif
