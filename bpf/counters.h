/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* counters.h - what is counted of backends and services, as Go reads it: rule 7. A part of types.h. */
#pragma once

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* enum flow_dir says which way a flow entry's packets go. */
enum flow_dir {
	DIR_FORWARD = 0, /* client to backend */
	DIR_REPLY, /* backend to client */
	DIR_MAX, /* number of directions; not a direction */
};

/* enum trouble says what a sign is that a TCP backend may not serve any more. */
enum trouble {
	TROUBLE_UNANSWERED = 0, /* a SYN that was sent again, since nobody has answered it */
	TROUBLE_REFUSED, /* a reset of the backend that answers a SYN */
	TROUBLE_RESET, /* a reset of the backend in an established flow */
	TROUBLE_MAX, /* number of signs; none of them */
};

/* struct counters is the value of backend_counters. */
struct counters {
	__u64 packets[DIR_MAX]; /* forwarded, by enum flow_dir */
	__u64 bytes[DIR_MAX]; /* IP total lengths of those */
	__u64 flows; /* flows made */
	__u64 troubles[TROUBLE_MAX]; /* by enum trouble */
};

/* struct connections counts those of a backend or a service, in one aligned u64: rule 7. */
struct connections {
	__u32 gen; /* of the row's owner whose they are */
	__u32 count;
};

#pragma clang diagnostic pop
