/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* race.h - where another CPU may be quicker; the test build makes it so. */
#pragma once

/* env_race is just before an entry is inserted at key. */
static __always_inline void env_race(const struct packet *p, const struct flow_key *key)
{
	(void)p;
	(void)key;
}

/* env_race_fragment is just before a later fragment begins to wait for its first. */
static __always_inline void env_race_fragment(const struct fragment *key)
{
	(void)key;
}
