#!/usr/bin/env bash
# setup.sh GROUP... - installs what the named groups need and this machine lacks.
#
# Groups: build generate test slow bench kernels lint. Says nothing and asks the network
# nothing when everything is there. Services that come with a package are
# neither started nor enabled.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

die() {
	echo "setup: $*" >&2
	exit 1
}

# packages GROUP prints what apt must have installed for it.
packages() {
	case $1 in
	build) ;; # nothing but Go
	generate) echo clang-19 llvm-19 clang-format-19 libbpf-dev linux-libc-dev protobuf-compiler libprotobuf-dev git ;;
	test) echo curl openssl wrk fish zsh netcat-openbsd nghttp2-client iperf3 bind9-dnsutils haproxy nginx nftables tcpdump iproute2 ethtool procps debian-archive-keyring systemd chromium-headless-shell ;;
	slow) echo lintian ;;
	bench) echo wrk haproxy nginx nghttp2-client ;;
	kernels) echo qemu-system-x86 busybox-static cpio gzip xz-utils zstd kmod debian-archive-keyring ;;
	lint) echo shellcheck clang-format-19 ruby ;;
	*) die "unknown group $1: want build, generate, test, slow, bench, kernels or lint" ;;
	esac
}

check_go() {
	command -v go >/dev/null || die "go not found: install Go 1.26 or later (https://go.dev/dl) and put it on PATH"
	(cd "$(dirname "$0")/.." && go list -m >/dev/null) || die "this Go is too old: install Go 1.26 or later"
}

check_root() {
	[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
		die "network namespaces and XDP need root: run this as root, or install sudo"
}

# as_root runs a command with the privileges that apt-get wants.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif [ -n "${CI:-}" ]; then
		sudo -n "$@"
	else
		sudo "$@"
	fi
}

# apt runs apt-get, at most for 15 minutes, waiting for whoever holds its lock.
# sudo forgets the environment, so it is set again behind it.
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C timeout 900 apt-get -qq \
		-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# quietly runs a command with its output in $log and, from the 15th second on,
# one line now and then to show that it is alive.
quietly() {
	local begin=$SECONDS pid
	"$@" >>"$log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if [ $((SECONDS - begin)) -ge "$next" ]; then
			echo "setup: still at it after $((SECONDS - begin)) s: $(tail -n 1 "$log" | cut -c 1-100)"
			next=$((next + 15))
		fi
	done
	wait "$pid"
}

policy=/usr/sbin/policy-rc.d
own_policy=

# fetch_tools leaves in the cache what the named groups need and no package has.
fetch_tools() {
	case " $* " in
	*" test "*)
		"$(dirname "$0")/pebble-fetch.sh" >/dev/null
		"$(dirname "$0")/h2spec-fetch.sh" >/dev/null
		"$(dirname "$0")/interop-fetch.sh" >/dev/null
		"$(dirname "$0")/cachetests-fetch.sh" >/dev/null
		"$(dirname "$0")/prometheus-fetch.sh" >/dev/null
		;;
	esac
	case " $* " in
	*" bench "*) "$(dirname "$0")/caddy-fetch.sh" >/dev/null ;;
	esac
}

# hold_services keeps maintainer scripts from starting daemons. A policy that
# the machine has already is its administrator's and stays.
hold_services() {
	[ -e "$policy" ] && return
	# shellcheck disable=SC2016 # $0 belongs to the inner shell
	as_root sh -c 'printf "#!/bin/sh\nexit 101\n" >"$0" && chmod 755 "$0"' "$policy"
	own_policy=yes
}

cleanup() {
	[ -z "$own_policy" ] || as_root rm -f "$policy"
	rm -f "$log"
}

# is_installed PACKAGE
is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# disable_services stops what a new package would start now or at the next boot.
disable_services() {
	local unit
	[ -d /run/systemd/system ] || return 0
	for unit in haproxy nginx nftables; do
		case " $* " in *" $unit "*) as_root systemctl --quiet disable --now "$unit" >>"$log" 2>&1 || true ;; esac
	done
}

install() {
	local try
	for try in 1 2 3; do
		next=15
		# Another source of this machine may be broken: only the install decides.
		quietly apt update || true
		quietly apt install --no-install-recommends "$@" && return
		[ "$try" = 3 ] || { echo "setup: attempt $try failed, trying again" && sleep $((try * 5)); }
	done
	tail -n 15 "$log" >&2
	die "install $*: apt-get failed three times, its last words are above"
}

[ $# -gt 0 ] || die "usage: setup.sh build|generate|test|slow|bench|kernels|lint ..."
want=()
for group in "$@"; do
	[ "$group" != build ] || check_go
	[ "$group" != test ] || check_root
	# A Node that is not Debian's brings its npm along, and conflicts with Debian's.
	[ "$group" != test ] || command -v npm >/dev/null || want+=(nodejs npm)
	list=$(packages "$group")
	read -ra list <<<"$list"
	want+=("${list[@]}")
done
missing=()
for package in "${want[@]}"; do
	case " ${missing[*]} " in *" $package "*) continue ;; esac
	is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
	fetch_tools "$@"
	exit
fi

command -v apt-get >/dev/null || die "no apt-get here: install by hand what provides ${missing[*]}"
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
	die "installing ${missing[*]} needs root: run as root, or install sudo"
fi
log=$(mktemp)
trap cleanup EXIT
trap 'exit 130' INT TERM
echo "setup: installing ${missing[*]}"
hold_services
install -y "${missing[@]}"
disable_services "${missing[@]}"
fetch_tools "$@"
