#!/usr/bin/env bash
# test-kernels.sh [PACKAGE[+PACKAGE]... | TEST_BINARY]... - runs tests under other
# kernels.
#
# Each argument gets a machine of its own in qemu (no KVM needed), with a Debian
# kernel and an initramfs of busybox, modules and the test binaries. A machine
# that hangs, panics, runs no test or skips one has failed; so has a kernel that
# cannot be fetched. Their logs stay in build/kernels/.
#
#   KERNELS          which lines ("6.1 6.12 newest")
#   RUN              only tests that match this (.)
#   SKIP             no tests that match this (those that only take time there)
#   ONCE             without RUN, under the first kernel only (what others would repeat)
#   TIMEOUT          seconds that one machine may take (1200)
#   FAIRLEAD_FUZZ_N  packets that the fuzzer sends per machine (5000)
#   ALLOWED_SKIPS    tests that may skip in a machine, as a regular expression
#   CPUS             how many CPUs a machine has (1)
#   AT_ONCE          how many machines run at once (3)
#   KERNEL_ARGS      more parameters of the kernel's command line
#
# Without arguments the first kernel gets one machine more, which has no IPv6.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."

# What runs by default: every package with tests that talk to the kernel, those
# that take longest first, so that none is left alone at the end, and the short
# ones in one machine, which takes longer to boot than each of them to run.
PACKAGES=${PACKAGES:-./loader ./testenv/lbtest ./userspace/kernel ./testenv/fuzz
	./userspace/datapath+./testenv/livegen+./userspace/host+./testenv+./testenv/xdpwatch}
# What takes minutes without KVM: programs with every fault that is seeded into
# them, every row twice as a dry run, commands that are killed at every point,
# shares of a hundred thousand flows, and races that a single CPU does not have;
# what reads files that are not there: 150 MB of captures, and a table of the
# documentation. They ask nothing of a kernel's version that the others do not ask.
COSTLY="TestSeededFaults|TestEachFault.*IsFound|TestKilledAnywhere|TestSumsStayExact.*|TestRace|TestRaceForTheWay|TestCrowdedRace|TestDryRunsForetell|TestChurn|TestCaptures|TestSharesAreTheWeights|TestEachOddPacketHasARow|TestFailureAtAnyStep.*"
# What computes for long and never talks to a kernel.
PURE="TestModelAgainstItself|TestDifferenceIsPinned|TestWorkersSendTheSamePackets|TestWorkersEndAtADifference|TestVerifyFrameFindsEveryFlippedBit"
PURE="$PURE|TestRandomChanges|TestPartsOfPlansLeadToTheSame|TestPreviewIsWhatReconcileDoes|TestPacketsFindWhatTheyHaveSeen"
SKIP=${SKIP-$COSTLY|$PURE}
# What asks the next kernel for nothing that the first has not answered: what our own
# writers keep, foretell, carry over and undo, and how the tools work that tests are
# made of. All of it runs under the kernel of the host, too.
ONCE=${ONCE-"TestFolding.*|TestOthersPayNothing.*|TestInterfacesTakenOut.*|TestProgramBetweenFamilies.*|TestProgramsOfBothFamilies.*\
|TestUpgradeFromBefore.*|TestOtherSchemaIsDropped.*|TestIPv6ThatLostItsPins.*|TestGrowth.*|TestPlanMaps.*|TestListsOfClientsGrow|TestLinkOfAnotherLibrary.*\
|TestProgramKnows.*|TestIPv6ComesAndGoes|TestWhatIsForeseenComes|TestWhatStandsAgainst.*|TestBesideAnAgent.*|TestConfigurationThatOutgrows.*|TestBackendThatIsDown.*|TestReasonForGenericMode.*|TestHealthThatNobody.*|TestDetachBesideAnAgent.*\
|TestRowsOfBothFamilies.*|TestRowsBetweenFamilies.*|TestStandbyFlows.*|TestPreview.*|TestFramesVary.*|TestLostFrames.*|TestRateIsPrinted|TestRunKeeps.*|TestBadTemplates.*"}
# What runs where the kernel has no IPv6.
WITHOUT_IPV6="TestKernelWithoutIPv6|TestConnections.*"
# What the tests need that Debian builds as modules.
MODULES="veth dummy tun 8021q bridge sch_ingress cls_bpf nf_tables nf_conntrack
	nft_ct nft_chain_nat nft_nat nft_masq nft_numgen inet_diag tcp_diag"
# One more than there are cores everywhere: a machine whose test waits leaves its
# core to another.
AT_ONCE=${AT_ONCE:-3}

kernels=${KERNELS:-6.1 6.12 newest}
limit=${TIMEOUT:-1200}
# The one test that has nothing to look at on a single CPU.
allowed_skips=${ALLOWED_SKIPS-TestPinnedSendersAreReceivedOnTheirCPU}
logs=build/kernels

die() {
	echo "test-kernels: $*" >&2
	exit 1
}

# add_machine PACKAGE[+PACKAGE]... or FILE makes a directory of what one machine
# runs, and puts it into dirs.
add_machine() {
	local dir members member
	IFS=+ read -ra members <<<"$1"
	dir=$work/machines/$(for member in "${members[@]}"; do name_of "$member"; done | paste -sd +)
	mkdir "$dir" || die "two machines would be called $(basename "$dir")"
	for member in "${members[@]}"; do
		add_binary "$member" "$dir/tests/$(name_of "$member")"
	done
	dirs+=("$dir")
}

# name_of PACKAGE_OR_FILE prints what its test binary is called.
name_of() {
	if [ -f "$1" ]; then
		basename "$1"
		return
	fi
	[ -d "$1" ] || die "no such package or test binary: $1"
	echo "$(basename "$(cd "$1" && pwd)").test"
}

# add_binary PACKAGE_OR_FILE DIR puts a test binary and its testdata into DIR.
add_binary() {
	mkdir -p "$2/src"
	if [ -f "$1" ]; then
		cp "$1" "$2/t"
		return
	fi
	CGO_ENABLED=0 go test -c -o "$2/t" "$1" || die "build the tests of $1"
	[ -e "$2/t" ] || die "$1 has no tests"
	[ ! -d "$1/testdata" ] || cp -r "$1/testdata" "$2/src/"
}

# module_files KERNEL_DIR prints the files to load, in order. A module that the
# kernel has neither as a file nor built in is an error.
module_files() {
	awk -v want="$MODULES" '
		function name(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); return path }
		FILENAME ~ /builtin$/ { builtin[name($1)] = 1; next }
		{ sub(/:$/, "", $1); file[name($1)] = $1; needs[name($1)] = $0 }
		END {
			n = split(want, wanted)
			for (i = 1; i <= n; i++) {
				if (wanted[i] in builtin)
					continue
				if (!(wanted[i] in file)) {
					print "no module " wanted[i] > "/dev/stderr"
					exit 1
				}
				# modules.dep names what must be loaded first last.
				for (k = split(needs[wanted[i]], path); k > 0; k--)
					if (!seen[path[k]]++)
						print path[k]
			}
		}' "$1/modules/modules.builtin" "$1/modules/modules.dep"
}

# write_init MODULE... writes what the machine runs. The kernel's console is the
# first serial port; the tests have the second one for themselves.
write_init() {
	cat <<-EOF
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		export PATH=/bin HOME=/tmp
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		mount -t devtmpfs dev /dev
		mount -t bpf bpf /sys/fs/bpf
		mount -t tracefs trace /sys/kernel/tracing
		mount -t tmpfs tmp /tmp
		mount -t tmpfs run /run
		stty -F /dev/ttyS1 raw -echo
		exec >/dev/ttyS1 2>&1
		for m in $*; do
			insmod /modules/\$m || { echo "guest: insmod \$m failed"; poweroff -f; }
		done
		ip link set lo up
		echo "guest: start"
		export FAIRLEAD_TEST_ROOT=1 FAIRLEAD_VM=1
		. /environment
		for test in /tests/*; do
			cd \$test/src
			\$test/t -test.v -test.count=1 "-test.timeout=\$go_limit" "-test.run=\$run" "-test.skip=\$skip"
			status=\$?
			[ \$status -eq 0 ] || break
		done
		echo "guest: exit \$status"
		poweroff -f
	EOF
}

pack() {
	(cd "$1" && find . | cpio -o -H newc --quiet)
}

# make_base KERNEL_DIR FILE writes the part of the initramfs that all tests share.
make_base() {
	local root file files
	root=$(mktemp -d "$work/root.XXXXXX")
	mkdir -p "$root"/{bin,proc,sys,dev,tmp,run,etc,var,modules}
	ln -s /run "$root/var/run"
	cp /bin/busybox "$root/bin/"
	files=$(module_files "$1") || return
	for file in $files; do
		case $file in
		*.xz) xz -dc "$1/modules/$file" ;;
		*.zst) zstd -qdc "$1/modules/$file" ;;
		*) cat "$1/modules/$file" ;;
		esac >"$root/modules/$(basename "${file%.ko*}")" || return
	done
	# shellcheck disable=SC2046 # one word per module
	write_init $(for file in $files; do basename "${file%.ko*}"; done) >"$root/init"
	chmod +x "$root/init"
	pack "$root" >"$2"
	rm -rf "$root"
}

# write_environment FIRST PARAMETERS OUT writes what the tests of one machine are told.
# Only the FIRST kernel (yes) runs all of them.
write_environment() {
	local run=${RUN:-.} skip=$SKIP
	[ "$1" = yes ] || [ -n "${RUN:-}" ] || skip=${skip}${skip:+${ONCE:+|}}$ONCE
	[ "$2" != ipv6.disable=1 ] || run=$WITHOUT_IPV6
	mkdir "$3/more"
	{
		printf 'go_limit=%ss\nrun=%q\nskip=%q\n' $((limit * 4 / 5)) "$run" "${skip:+^($skip)$}"
		printf 'export FAIRLEAD_FUZZ_N=%q\n' "${FAIRLEAD_FUZZ_N:-5000}"
	} >"$3/more/environment"
	pack "$3/more" >"$3/environment.cpio"
}

# boot KERNEL_IMAGE BASE DIR OUT PARAMETERS runs one machine. Two faults of qemu 7.2's
# translator are kept out of the way: with two CPUs it sometimes runs a stale
# instruction after another CPU patched code, which the XDP dispatcher lives
# from; and CMPXCHG16B, the heart of the kernel's allocator, may leave a pointer
# in the flags, so that the next interrupt ends in a double fault. It repeats
# string instructions byte by byte, so the kernel is not told that those are fast
# (ERMS, FSRM): a third less time. On a busy host the kernel's own test of its
# timer may fail, so it is left out.
boot() {
	cat "$2" "$3/cpio" "$4/environment.cpio" >"$4/initrd"
	timeout --kill-after=5 "$limit" qemu-system-x86_64 -nodefaults -no-reboot -display none \
		-machine q35,accel=tcg -cpu max,-cx16,-erms,-fsrm -smp "${CPUS:-1}" -m 2048 \
		-serial "file:$4/console" -serial "file:$4/output" -kernel "$1" -initrd "$4/initrd" \
		-append "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr tsc=reliable no_timer_check $5" \
		</dev/null >"$4/qemu" 2>&1
}

# count PATTERN FILE
count() {
	grep -cE "$1" "$2" || true
}

# fault OUT STATUS BINARIES says in a line what is wrong with a machine's end, if
# anything.
fault() {
	local out=$1/output console=$1/console skipped
	skipped=$(sed -nE 's/^ *--- SKIP: ([^ ]+).*/\1/p' "$out" | grep -vE "^(${allowed_skips})\$" | paste -sd ' ' || true)
	if grep -q 'Kernel panic' "$console"; then
		grep -oE -m 1 'Kernel panic.*' "$console"
	elif [ "$2" -eq 124 ] || [ "$2" -eq 137 ]; then
		echo "hangs: no end after $limit s"
	elif [ "$2" -ne 0 ]; then
		echo "qemu failed: $(tail -n 1 "$1/qemu")"
	elif grep -q '^guest: insmod' "$out"; then
		grep -m 1 '^guest: insmod' "$out"
	elif ! grep -q '^guest: exit' "$out"; then
		echo "the machine stopped before the tests ended"
	elif grep -q '^panic: test timed out' "$out"; then
		grep -m 1 '^panic: test timed out' "$out"
	elif ! grep -qx 'guest: exit 0' "$out" || [ "$(count '^PASS$' "$out")" -ne "$3" ]; then
		echo "$(grep -oE -m 1 -- '(--- FAIL: [^ ]+|^panic: .*|^fatal error: .*)' "$out" || echo "no PASS"), $(grep '^guest: exit' "$out" | sed 's/^guest: //')"
	elif [ "$(count '^--- PASS' "$out")" -eq 0 ]; then
		echo "no test ran"
	elif [ -n "$skipped" ]; then
		echo "skipped, which is not allowed: $skipped"
	fi
}

# boot_until_started boots anew, up to three times in all, when a machine died
# before its first test: that is not a test's doing. A kernel that never starts
# the tests, or hangs, still fails.
boot_until_started() {
	local try status
	for try in 1 2 3; do
		status=0
		: >"$4/output"
		: >"$4/console"
		boot "$@" || status=$?
		if grep -q '^guest: start' "$4/output" || [ "$status" -eq 124 ] || [ "$try" = 3 ]; then
			return "$status"
		fi
		echo "     $(basename "$4"): did not come up, booting again: $(fault "$4" "$status" 1)"
	done
}

# last_words OUT prints what led to a failed test or, where none failed, how the
# machine ended.
last_words() {
	if grep -q -- '--- FAIL' "$1/output"; then
		grep -m 3 -B 10 -- '--- FAIL' "$1/output"
	else
		tail -qn 30 "$1/console" "$1/output"
	fi
}

# machine RELEASE KERNEL_IMAGE BASE DIR FIRST [PARAMETERS] runs one machine and
# judges it. PARAMETERS are of its kernel.
machine() {
	local name out binaries status=0 why begin=$SECONDS
	name=$(basename "$4")${6:+,$6}
	out=$work/$1-$name
	mkdir "$out"
	write_environment "$5" "${6:-}" "$out"
	boot_until_started "$2" "$3" "$4" "$out" "${KERNEL_ARGS:-} ${6:-}" || status=$?
	rm -f "$out/initrd"
	binaries=$(find "$4/tests" -mindepth 1 -maxdepth 1 | wc -l)
	why=$(fault "$out" "$status" "$binaries")
	cat "$out/console" "$out/output" >"$logs/$1-$name.log"
	if [ -z "$why" ]; then
		echo "ok   $1: $name: $(count '^--- PASS' "$out/output") passed, 0 failed, $(count '^ *--- SKIP' "$out/output") skipped ($((SECONDS - begin)) s)"
		touch "$out.ok"
		return
	fi
	{
		echo "FAIL $1: $name: $why"
		last_words "$out" | tr -d '\r' | cut -c 1-200 | sed 's/^/  | /'
		echo "  (all of it: $logs/$1-$name.log)"
	} >"$out/report"
	cat "$out/report"
}

cleanup() {
	local pids
	pids=$(jobs -p)
	# A job is a subshell; what it waits for is told by the group it shares with it.
	# shellcheck disable=SC2086 # one word per process
	[ -z "$pids" ] || { pkill_children $pids; kill $pids; wait; } 2>/dev/null || true
	rm -rf "$work"
}

# pkill_children PID... ends the direct children (timeout, which ends qemu).
pkill_children() {
	local pid
	for pid in "$@"; do
		ps -o pid= --ppid "$pid" | xargs -r kill
	done
}

# start runs a command in the background as soon as there is a place for it.
start() {
	while [ "$(jobs -rp | wc -l)" -ge "$AT_ONCE" ]; do
		wait -n || true
	done
	"$@" &
}

command -v qemu-system-x86_64 >/dev/null || die "qemu-system-x86_64 is missing: scripts/setup.sh kernels"
work=$(mktemp -d)
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir -p "$logs" "$work/machines"
read -rd '' -a machines <<<"$PACKAGES" || true
[ $# -eq 0 ] || machines=("$@")
dirs=()
for machine in "${machines[@]}"; do
	add_machine "$machine"
done
for dir in "${dirs[@]}"; do
	pack "$dir" >"$work/cpio"
	mv "$work/cpio" "$dir/cpio"
done

: >build/kernels.txt
planned=0
first=yes
for kernel in $kernels; do
	found=$(scripts/kernels-fetch.sh "$kernel") || die "no kernel $kernel"
	read -r dir release version <<<"$found"
	echo "$kernel $release ($version)" | tee -a build/kernels.txt
	make_base "$dir" "$work/$release.cpio" || die "kernel $release: make the initramfs"
	for test in "${dirs[@]}"; do
		planned=$((planned + 1))
		start machine "$release" "$dir/vmlinuz" "$work/$release.cpio" "$test" "$first"
	done
	if [ "$first" = yes ] && [ $# -eq 0 ]; then
		planned=$((planned + 1))
		start machine "$release" "$dir/vmlinuz" "$work/$release.cpio" "$work/machines/kernel.test" yes ipv6.disable=1
	fi
	first=no
done
wait
passed=$(find "$work" -maxdepth 1 -name '*.ok' | wc -l)
[ "$planned" -gt 0 ] || die "nothing to run"
[ "$passed" -eq "$planned" ] || die "$((planned - passed)) of $planned machines failed"
echo "test-kernels: all $planned machines passed"
