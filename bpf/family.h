/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * family.h - the family of addresses that this program is for.
 *
 * IPv4 and IPv6 have a program each, from one text. What differs between them
 * stands in ipv4.h and ipv6.h, under the same names; everything else is shared.
 */
#pragma once

#define ANSWER_TTL 64 /* of packets of our own */

#ifdef IPV6
#include "ipv6.h"
#else
#include "ipv4.h"
#endif
