/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * dry.h - a dry run: what would become of a packet, without anything becoming of it.
 *
 * It goes the packet's way through the rules, but stops before each write to
 * what it shares with others, and goes on as if it had written. Where dry_run is
 * false, the verifier takes all of this out of the program.
 */
#pragma once

#include "packet.h"

/* told is the last dry run's: one after the other. */
struct told told;

/*
 * scratch is a copy of the packet's entry, a struct flow, which a dry run may write
 * to. Programs that share their variables have it of one size.
 */
__u64 scratch[20];

_Static_assert(sizeof(struct flow) <= sizeof(scratch), "an entry of either family fits");

/* enum pretence is what a dry run has made of a place, as far as it is concerned. */
enum pretence {
	PRETEND_NOTHING = 0,
	PRETEND_FREE = 1,
	PRETEND_TAKEN = 2, /* by another entry, even if it was free before */
};

static __always_inline __u64 location_of(__u32 bucket, __u32 place)
{
	return (__u64)bucket * BUCKET_PLACES + place;
}

static __always_inline void pretend(__u32 bucket, __u32 place, enum pretence what)
{
	__u32 i = told.changes++ & (CHANGES - 1);

	barrier_var(i);
	told.changed[i] = location_of(bucket, place) << 8 | what;
}

/* pretended returns bits of enum pretence. */
static __always_inline __u32 pretended(__u32 bucket, __u32 place)
{
	__u64 at = location_of(bucket, place);
	__u32 what = PRETEND_NOTHING;

#pragma clang loop unroll(disable)
	for (int i = 0; i < CHANGES; i++) {
		if (told.changed[i] >> 8 == at)
			what |= told.changed[i] & 0xff;
	}
	return what;
}

/* Bits of a row that say whose it is. */
#define OF_BACKEND 0x40000000ULL
#define OF_SERVICE 0x80000000ULL

/* pretend_end makes connections of a backend and its service, each row | gen << 32, one less. */
static __always_inline int pretend_end(__u64 backend, __u64 service)
{
	__u32 i = told.ends++ & (CHANGES - 1);

	barrier_var(i);
	told.ended[2 * i] = backend | OF_BACKEND;
	told.ended[2 * i + 1] = service | OF_SERVICE;
	return 0;
}

/*
 * without_ended returns n, connections of whose, row | gen << 32 with OF_BACKEND or
 * OF_SERVICE, without those that a dry run has ended. Global, as locate is.
 */
__noinline __u32 without_ended(__u32 n, __u64 whose)
{
	__u32 ended = 0;

#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < 2 * CHANGES; i++)
		ended += told.ended[i] == whose;
	return n > ended ? n - ended : 0;
}

/* The functions that follow write down what is told. */

static __always_inline void note_service(const struct service *s, __u32 row)
{
	told.parts |= TOLD_SERVICE;
	told.service = row;
	told.service_gen = s->gen;
}

static __always_inline void note_check(enum fitness fitness)
{
	told.parts |= TOLD_CHECK;
	told.fitness = fitness;
}

static __always_inline void note_zone(__u32 row)
{
	told.parts |= TOLD_ZONE;
	told.zone = row;
}

static __always_inline void note_choice(__u64 run, bool all_up)
{
	told.parts |= TOLD_CHOICE;
	told.run = run;
	told.all_up = all_up;
#pragma unroll
	for (int i = 0; i < MAX_TRIES; i++)
		told.attempts[i].slot = told.attempts[i].other = NO_SLOT;
}

/* attempt_now is the try that is being made. */
static __always_inline struct attempt *attempt_now(void)
{
	__u32 i = told.tries & (MAX_TRIES - 1);

	barrier_var(i);
	return &told.attempts[i];
}

/* note_number returns the hash or turn that a slot is taken by. */
static __always_inline __u64 note_number(__u64 number)
{
	attempt_now()->number = number;
	return number;
}

static __always_inline void note_slot(__u32 slot)
{
	struct attempt *a = attempt_now();

	a->other = a->slot;
	a->slot = slot;
}

static __always_inline void note_attempt(__u32 row, int verdict)
{
	struct attempt *a = attempt_now();

	a->backend = row;
	a->verdict = verdict;
	told.tries++;
}
