/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * told.h - what a dry run tells of its packet: a part of what Go and the kernel
 * must agree on, see types.h.
 */
#pragma once

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* enum told_part says which parts of struct told mean something: bits. */
enum told_part {
	TOLD_FLOW = 1, /* service to dir: the packet's entry counts */
	TOLD_CHECK = 2, /* fitness: the entry was checked */
	TOLD_SERVICE = 4, /* service, service_gen: the packet is to one, and has no flow */
	TOLD_CHOICE = 8, /* run to attempts: a backend was looked for */
	TOLD_ZONE = 16, /* zone: by those of the client's zone */
};

/* enum fitness says whether service and backend of a flow are still there. */
enum fitness {
	FIT = 0,
	DOWN, /* the backend is, and its flows shall not outlive that */
	GONE, /* service or backend, or another has its row */
};

/* MAX_TRIES is how many backends a packet is tried with. */
#define MAX_TRIES 4

/* NO_SLOT says that no slot was looked at: the client stays with a backend that it had. */
#define NO_SLOT (-1U)

/* struct attempt is a try to make a flow. */
struct attempt {
	__u64 number; /* hash or turn that the slot was taken by */
	__u32 slot; /* the last one that was looked at; BALANCE_LEAST looks at all */
	__u32 other; /* the one before that; of BALANCE_P2C */
	__u32 backend; /* row; beyond the end if the slot names none */
	__u32 verdict; /* what the packet would get if it were the last try */
};

/* CHANGES is how many changes of the flow table a dry run keeps in mind, a power of two. */
#define CHANGES 16

/* struct told is what a dry run tells. */
struct told {
	__u32 parts; /* enum told_part */
	__u32 verdict;
	__u32 egress; /* interface, of what is forwarded */
	__u32 service; /* row */
	__u32 service_gen; /* whose row that is to be */
	__u32 backend; /* row */
	__u32 backend_gen;
	__u32 age; /* ticks since the entry's last packet */
	__u32 idle; /* ticks of silence that it survives */
	__u8 state; /* enum flow_state */
	__u8 dir; /* enum flow_dir */
	__u8 fitness;
	__u8 all_up; /* whether backends that are down count as up */
	__u64 run; /* of slots: offset << 32 | length */
	__u32 tries;
	__u32 turns; /* taken so far */
	struct attempt attempts[MAX_TRIES];
	__u64 changed[CHANGES]; /* location << 8 | enum pretence, in turn */
	__u64 ended[2 *
		    CHANGES]; /* connections: row | gen << 32 of the backend, then of the service */
	__u32 changes;
	__u32 ends;
	__u32 zone; /* row of a SERVICE_ZONE */
	__u32 pad;
};

#pragma clang diagnostic pop
