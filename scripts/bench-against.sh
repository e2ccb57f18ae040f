#!/usr/bin/env bash
# bench-against.sh REV [ROUNDS] - has a hit become slower since a revision?
#
# Builds the benchmark of REV and that of this tree and runs their packets in
# turns, ROUNDS (5) times each. Prints the least that a packet of an IPv4 TCP
# flow costs, less what restoring it does, and the ratio: whatever else a machine
# does adds to a run and takes nothing away. One look-up is the same program in
# both, so its ratio says whether the machine was the same. A missed target is a
# result, not a failure.
#
#   ROOT  the command that becomes root, if somebody else runs this
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

die() {
	echo "bench-against: $*" >&2
	exit 1
}

# build TREE NAME makes the benchmark of a tree.
build() {
	(cd "$1" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/$2" ./testenv/bench) ||
		die "build the benchmark of $2"
}

# of PROGRAM prints what it costs without restoring, as the last run has it.
of() {
	awk -v program="restore, $1 " 'index($0, program) == 3 { print $(NF - 1) }' "$work/table"
}

# measure NAME adds a hit and a look-up to what NAME has. A flow in the second
# bucket of its key goes the complete way, which is not what is compared: such a
# run is made again.
measure() {
	local try hit lookup
	for try in 1 2 3 4 5 6 7 8; do
		# In the background, so that a signal to this script is answered at once.
		# shellcheck disable=SC2086 # a command with arguments
		${ROOT:-} "$work/$1" packets >"$work/table" 2>"$work/log" &
		wait $! || die "run the benchmark of $1: $(tail -n 1 "$work/log")"
		hit=$(of "Fairlead: TCP flow hit")
		lookup=$(of "one LRU look-up")
		[[ $hit && $lookup ]] || die "the benchmark of $1 has no rows of a hit and a look-up"
		if awk "BEGIN { exit !($hit < 2 * $lookup) }"; then
			echo "$hit $lookup" >>"$work/$1.runs"
			printf '%s  hit %5.1f ns  one look-up %5.1f ns\n' "$1" "$hit" "$lookup"
			return
		fi
		echo "$1  hit $hit ns: the flow stood in its second bucket, once more"
	done
	die "no flow of $1 stood in its first bucket in $try runs"
}

# least NAME COLUMN
least() {
	cut -d ' ' -f "$2" "$work/$1.runs" | sort -n | head -n 1
}

cleanup() {
	local pids
	pids=$(jobs -p)
	# shellcheck disable=SC2086 # one word per process
	[ -z "$pids" ] || { kill $pids && wait; } 2>/dev/null || true
	rm -rf "$work"
}

[ $# -ge 1 ] || die "which revision? usage: bench-against.sh REV [ROUNDS]"
rev=$(git rev-parse --verify --quiet "$1^{commit}") || die "there is no revision $1"
rounds=${2:-5}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "$rounds is no number of rounds"
work=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir "$work/tree"
git archive "$rev" | tar -x -C "$work/tree"
build "$work/tree" old
build . new
echo "old: $(git log -1 --format='%h %s' "$rev")"
echo "new: $(git log -1 --format='%h %s')$(git diff --quiet HEAD || echo ', and what is not committed')"
for ((round = 1; round <= rounds; round++)); do
	if ((round % 2)); then order="old new"; else order="new old"; fi
	for name in $order; do
		measure "$name"
	done
done

awk -v rounds="$rounds" -v hit="$(least new 1)" -v old_hit="$(least old 1)" \
	-v lookup="$(least new 2)" -v old_lookup="$(least old 2)" 'BEGIN {
	printf "\nNanoseconds per packet, the least of %d runs\n", rounds
	printf "  %-16s %7s %7s %10s\n", "program", "old", "new", "new / old"
	printf "  %-16s %7.1f %7.1f %10.3f\n", "one LRU look-up", old_lookup, lookup, lookup / old_lookup
	printf "  %-16s %7.1f %7.1f %10.3f\n", "TCP flow hit", old_hit, hit, hit / old_hit
	printf "  target: TCP flow hit new / old <= 1.05: %.3f, %s\n", hit / old_hit, hit / old_hit <= 1.05 ? "met" : "MISSED"
	if (lookup / old_lookup > 1.03 || lookup / old_lookup < 0.97)
		print "  The look-ups differ, so the machine was not the same: measure again."
}'
