/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * verdict.h - what becomes of packets: a part of what Go and the kernel must
 * agree on, see types.h.
 */
#pragma once

/*
 * enum verdict says what became of a packet and why. The number is an index of
 * the verdicts map and a label of a metric, so append only: never renumber.
 */
enum verdict {
	PASS_OFF = 0, /* the switch is off */
	PASS_OTHER, /* not ours */
	PASS_FRAGMENT, /* to a service address: an IP fragment */
	PASS_OPTIONS, /* to a service address: with IP options */
	PASS_VLAN, /* to a service address: with a VLAN tag */
	PASS_ICMP, /* to a service address: ICMP that is about no flow */
	PASS_MALFORMED, /* to a service address: no readable ports */
	PASS_PROXY, /* the service is on the proxy's rung */
	PASS_DRAINING, /* new flow while draining */
	PASS_NO_FLOW, /* TCP without SYN and without a flow */
	PASS_STANDBY, /* of a UDP flow of the standby proxy, or a SYN that has the tuple of its connection */
	FORWARD_REDIRECT, /* sent out of another interface */
	FORWARD_TX, /* sent out of the interface it came from */
	ANSWER_RESET, /* answered with a TCP reset */
	ANSWER_UNREACHABLE, /* answered with ICMP port unreachable */
	DROP_MALFORMED, /* of a flow or service: lengths that contradict each other */
	DROP_TTL, /* TTL used up, and no answer was possible or allowed */
	DROP_SOURCE, /* source is local, loopback, multicast, broadcast, zero or the destination */
	DROP_NO_ROUTE,
	DROP_NO_NEIGHBOUR, /* next hop's MAC address is not known */
	DROP_DEVICE, /* the way out is a device that XDP cannot use */
	DROP_NO_BACKEND, /* no answer was possible or allowed either */
	DROP_TUPLE_TAKEN, /* backend's tuple belongs to another live flow */
	DROP_TABLE_FULL,
	DROP_NO_FLOW, /* as PASS_NO_FLOW, but the address is not local */
	DROP_FLOW_ENDED, /* a reset, or a datagram of the backend, of an ended flow */
	DROP_REPLY_LIMIT, /* a reset was due, but over the limit */
	DROP_TOO_BIG, /* longer than the MTU of the way out, and no answer was possible or allowed */
	DROP_ICMP, /* error about a packet that no flow has sent */
	DROP_DENIED, /* the service's lists of clients do not allow the source */
	DROP_SOURCE_LIMIT, /* the source's network makes too many flows */
	ANSWER_TOO_BIG, /* answered with ICMP fragmentation needed */
	ANSWER_ECHO, /* a ping, answered */
	PASS_COOKIE, /* brings a cookie back, or lets the stack make one of its own */
	ANSWER_COOKIE, /* answered with a SYN cookie */
	DROP_COOKIE, /* TCP without SYN, flow and cookie while SYNs are answered with cookies */
	HOLD_FRAGMENT, /* given to the agent until its first fragment comes */
	DROP_FRAGMENT, /* its first was dropped, or has not come and nobody holds it */
	ANSWER_TIME_EXCEEDED, /* TTL used up, answered with ICMP time exceeded */
	VERDICT_MAX, /* number of verdicts; not a verdict */
};
