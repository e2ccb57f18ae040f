/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * export.h - the types of types.h that no map mentions, for bpf2go.
 *
 * Go gets its types from BTF, and BTF has only what maps and functions mention.
 * This function mentions the rest. Nobody calls it, so no kernel ever sees it.
 */
#pragma once

#include "types.h"

struct exports {
	enum control_mode control_mode;
	enum idle idle;
	enum service_state service_state;
	enum service_flag service_flag;
	enum backend_state backend_state;
	enum flow_dir flow_dir;
	enum flow_state flow_state;
	enum device_flag device_flag;
	enum backend_flag backend_flag;
	enum special_era special_era;
	enum eviction eviction;
	enum trouble trouble;
	enum client_rule client_rule;
	enum address_use address_use;
	enum balance balance;
	enum event_kind event_kind;
	enum event_count event_count;
	struct event event;
	struct held held;
	enum told_part told_part;
	enum fitness fitness;
	enum verdict verdict;
};

__attribute__((used)) static __noinline int export_types(struct exports *unused)
{
	return unused->idle;
}
