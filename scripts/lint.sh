#!/usr/bin/env bash
# lint.sh - every check of form, all of them even when one fails.
#
# Prints one line per finding and, at the end, which checks found something.
set -uo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.." || exit 1

# shellcheck source=scripts/go-tool.sh
. scripts/go-tool.sh

golangci_version=2.15.0

# sources PATTERN... lists files that are tracked or about to be.
sources() {
	git ls-files -z --cached --others --exclude-standard -- "$@" | sort -zu | while IFS= read -r -d '' file; do
		[ ! -f "$file" ] || printf '%s\0' "$file"
	done
}

# is_silent runs a command, shows what it says and fails if that is anything.
is_silent() {
	local out
	out=$("$@" 2>&1)
	[ -z "$out" ] && return
	echo "$out"
	return 1
}

check_gofmt() {
	is_silent bash -c 'xargs -0r gofmt -l | sed "s/$/: not formatted by gofmt/"' < <(sources '*.go')
}

check_vet() {
	go vet ./... 2>&1 | grep -v '^#'
	return "${PIPESTATUS[0]}"
}

check_golangci() {
	local golangci
	golangci=$(go_tool golangci-lint "$golangci_version" "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$golangci_version") || return
	"$golangci" run --allow-serial-runners --timeout 15m --show-stats=false --output.text.print-issued-lines=false --output.text.colors=false ./...
}

check_clang_format() {
	sources 'bpf/*.[ch]' 'testenv/*/bpf/*.[ch]' 'testenv/bpf/*.[ch]' |
		xargs -0r clang-format-19 --dry-run -Werror 2>&1 | grep -E '(error|warning):'
	return "${PIPESTATUS[1]}"
}

check_sizes() {
	sources '*.go' '*.c' '*.h' '*.sh' '.ci/run' | xargs -0r go run ./scripts/sizes 2>&1 | grep -v '^exit status'
	return "${PIPESTATUS[1]}"
}

check_leaks() {
	sources '*_test.go' | xargs -0r go run ./scripts/leakchecked 2>&1 | grep -v '^exit status'
	return "${PIPESTATUS[1]}"
}

check_shell() {
	sources '*.sh' '.ci/run' 'deploy/debian/p*' | xargs -0r shellcheck -f gcc
}

check_vagrant() {
	ruby -c Vagrantfile >/dev/null
}

# check_words finds marks of unfinished work. The pattern is taken apart so that
# it does not find itself.
check_words() {
	local words='TO''DO|FIX''ME|XX''X|HA''CK'
	! sources '*.go' '*.c' '*.h' '*.sh' '*.yml' '*.yaml' 'Makefile' '.ci/run' | xargs -0r grep -nHwE "$words"
}

failed=
for check in gofmt vet golangci clang_format sizes leaks shell vagrant words; do
	"check_$check" || failed="$failed $check"
done
[ -z "$failed" ] || { echo "lint: failed:$failed" >&2 && exit 1; }
echo "lint: clean"
