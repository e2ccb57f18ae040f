/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* event.h - what the flow log is told of flows: a part of what Go and the kernel must agree on, see types.h. */
#pragma once

#include "address.h"

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* enum event_kind says what has become of a flow: rule 15. */
enum event_kind {
	EVENT_NONE = 0, /* nothing that is told */
	EVENT_BEGIN,
	EVENT_OVER, /* its state says how; from here on, all are ends */
	EVENT_EVICTED, /* its place was another's need */
	EVENT_DELETED, /* its entry does not count, or its service or backend is gone, or its tuple another's */
};

/* struct event is a record of events. */
struct event {
	__u64 time; /* CLOCK_MONOTONIC, in ns */
	struct address client;
	struct address virtual; /* what the client connected to */
	struct address backend;
	__be16 client_port;
	__be16 virtual_port;
	__be16 backend_port;
	__u8 proto;
	__u8 kind; /* enum event_kind */
	__u32 service; /* row */
	__u32 service_gen;
	__u32 backend_row;
	__u32 backend_gen;
	__u8 state; /* enum flow_state, the last one of a flow that is gone */
	__u8 pad[7];
};

/* enum event_count is an index of event_counts. */
enum event_count {
	EVENTS_BEGUN = 0, /* written */
	EVENTS_ENDED,
	EVENTS_BEGUN_LOST, /* as there was no room for them */
	EVENTS_ENDED_LOST,
	EVENTS_MAX, /* number of counts; not a count */
};

#pragma clang diagnostic pop
