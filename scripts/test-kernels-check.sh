#!/usr/bin/env bash
# test-kernels-check.sh - does scripts/test-kernels.sh fail when it must?
#
# Feeds it tests that fail, panic, hang, skip or do not exist, a machine that
# dies and a kernel that cannot be fetched, and wants for each a failure and the
# line that says why. Uses one kernel, the oldest.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

work=$(mktemp -d)
none=build/_none # the underscore hides it from ./...
trap 'rm -rf "$work" "$none"' EXIT
trap 'exit 130' INT TERM
failed=0

write_tests() {
	cat >"$work/go.mod" <<-EOF
		module gate

		go 1.26
	EOF
	cat >"$work/gate_test.go" <<-EOF
		package gate

		import (
			"os"
			"testing"
		)

		func TestPass(*testing.T)   {}
		func TestFail(t *testing.T) { t.Error("as it should") }
		func TestPanic(*testing.T)  { panic("as it should") }
		func TestHang(*testing.T)   { select {} }
		func TestSkip(t *testing.T) { t.Skip("as it should") }
		func TestExit(*testing.T)   { os.Exit(0) }

		// TestCrash ends the machine, as a fault in the kernel would.
		func TestCrash(t *testing.T) {
			if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
				t.Fatal(err)
			}
		}
	EOF
	(cd "$work" && CGO_ENABLED=0 go test -c -o gate.test .)
	cp "$work/gate.test" "$work/twin.test"
	sed -i 's/TestPass(\*testing.T) .*/TestPass(t *testing.T) { t.Error("as it should") }/' "$work/gate_test.go"
	(cd "$work" && CGO_ENABLED=0 go test -c -o other.test .)
}

# expect NAME STATUS LINE [VARIABLE=VALUE]... [-- ARGUMENT]... runs the gate and
# wants its exit status and a line of its output to match.
expect() {
	local name=$1 want=$2 line=$3 status=0
	local -a vars=() args=("$work/gate.test")
	shift 3
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		vars+=("$1")
		shift
	done
	[ $# -eq 0 ] || args=("${@:2}")
	env KERNELS=6.1 "${vars[@]}" scripts/test-kernels.sh "${args[@]}" >"$work/out" 2>&1 || status=$?
	if [ "$status" -eq "$want" ] && grep -qE -- "$line" "$work/out"; then
		echo "ok   $name"
		return
	fi
	echo "FAIL $name: exit status $status, wanted $want and a line like: $line"
	sed 's/^/  | /' "$work/out"
	failed=1
}

write_tests
mkdir -p "$none"
echo "package none" >"$none/none.go"

expect "a test that passes" 0 '^ok   6\.1\..*: gate\.test: 1 passed, 0 failed, 0 skipped' RUN='^TestPass$'
expect "a test that fails" 1 '^FAIL 6\.1\..*: gate\.test: --- FAIL: TestFail, exit 1' RUN='TestPass|TestFail'
expect "two binaries in a machine" 0 '^ok   .*: gate\.test\+twin\.test: 2 passed' RUN='^TestPass$' -- "$work/gate.test+$work/twin.test"
expect "the second of a machine fails" 1 '^FAIL .*: gate\.test\+other\.test: --- FAIL: TestPass' RUN='^TestPass$' -- "$work/gate.test+$work/other.test"
expect "a test that panics" 1 '^FAIL .*: --- FAIL: TestPanic, exit 2' RUN=TestPanic
expect "a test that hangs" 1 '^FAIL .*: (panic: test timed out after|hangs: no end after 60 s)' RUN=TestHang TIMEOUT=60
expect "a machine that hangs" 1 '^FAIL .*: hangs: no end after 2 s' RUN=TestPass TIMEOUT=2
expect "a kernel that crashes" 1 '^FAIL .*: Kernel panic' RUN=TestCrash
expect "tests that end without a verdict" 1 '^FAIL .*: ' RUN=TestExit
expect "no test that matches" 1 '^FAIL .*: no test ran' RUN=TestNone
expect "a test that skips" 1 '^FAIL .*: skipped, which is not allowed: TestSkip' RUN='TestPass|TestSkip'
expect "a skip that is allowed" 0 '^ok   .*: 1 passed, 0 failed, 1 skipped' RUN='TestPass|TestSkip' ALLOWED_SKIPS=TestSkip
expect "a package without tests" 1 '^test-kernels: .* has no tests' -- "./$none"
expect "a package that does not exist" 1 '^test-kernels: no such package' -- ./no/such/package
expect "a kernel that cannot be fetched" 1 '^fetch kernel 6\.1: download .* from http://127\.0\.0\.1:9' \
	KERNEL_CACHE="$work/cache" DEBIAN_MIRROR=http://127.0.0.1:9/debian
expect "an unknown kernel" 1 '^fetch kernel 5\.4: unknown' KERNELS=5.4
expect "no kernel at all" 1 '^test-kernels: nothing to run' KERNELS=' '
exit "$failed"
