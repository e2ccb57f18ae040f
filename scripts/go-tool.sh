# shellcheck shell=bash
# go-tool.sh - to be sourced by scripts that need a tool which is written in Go.

# go_tool NAME VERSION ARGUMENT... builds a tool by go install, once, and prints
# where it is. The arguments say of what, and end in its package.
go_tool() {
	local cache tool
	cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache/bin
	tool=$cache/$1-$2
	mkdir -p "$cache" || return
	(
		flock 9
		[ ! -x "$tool" ] || exit 0
		echo "building $1 $2 (once)" >&2
		work=$(mktemp -d "$cache/.new.XXXXXX") || exit
		trap 'rm -rf "$work"' EXIT
		for try in 1 2 3; do
			GOBIN=$work GOFLAGS=-modcacherw go install "${@:3}" >"$work/log" 2>&1 && break
			if [ "$try" = 3 ]; then
				echo "build $1 $2: $(tail -n 1 "$work/log")" >&2
				exit 1
			fi
			sleep $((try * 2))
		done
		mv "$work/$1" "$tool" # appears by one rename
	) 9>"$tool.lock" || return
	echo "$tool"
}
