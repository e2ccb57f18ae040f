#!/usr/bin/env bash
# release-check.sh - is a release the same bytes when it is built again?
#
# Builds what is committed twice, in two directories, the second time with an
# empty build cache, and compares the sums.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
VERSION=$(git describe --tags --always)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export VERSION SOURCE_DATE_EPOCH

for tree in one another/place; do
	mkdir -p "$work/$tree"
	git archive HEAD | tar -x -C "$work/$tree"
done
"$work/one/scripts/release.sh" "$work/dist1"
GOCACHE=$work/cache "$work/another/place/scripts/release.sh" "$work/dist2"
if ! cmp "$work/dist1/SHA256SUMS" "$work/dist2/SHA256SUMS"; then
	diff "$work/dist1/SHA256SUMS" "$work/dist2/SHA256SUMS"
	echo "release-check: two builds of $VERSION differ" >&2
	exit 1
fi
echo "release-check: two builds of $VERSION are byte-identical"
