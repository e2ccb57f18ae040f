#!/usr/bin/env bash
# package.sh DIRECTORY [ARCHITECTURE...] - Debian packages, for amd64 and arm64.
#
# The same commit gives the same bytes, as with release.sh; VERSION and
# SOURCE_DATE_EPOCH mean the same. MAINTAINER is who is to be written to about the
# packages, as "Name <address>". PROGRAMS is a directory of programs that are built
# already, for this machine; COMPRESSION is another one than xz.
set -euo pipefail
export LC_ALL=C TZ=UTC
cd "$(dirname "$0")/.."

out=${1:?usage: package.sh DIRECTORY [ARCHITECTURE...]}
shift
[ $# -gt 0 ] || set -- amd64 arm64
version=${VERSION:-$(git describe --tags --always --dirty)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# debian_version prints a version as Debian orders it: a commit after v1.2 comes behind
# 1.2, and one of no tag before everything.
debian_version() {
	case $1 in
	v[0-9]*) echo "${1#v}" | sed 's/-/+/; s/-/./g' ;;
	[0-9]*.*) echo "${1//-/+}" ;;
	*) echo "0~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).${1//-/.}" ;;
	esac
}

# put MODE SOURCE TARGET copies a file into the tree.
put() { install -D -m "$1" "$2" "$root/$3"; }

# pack TARGET SOURCE compresses a file into the tree.
pack() {
	mkdir -p "$(dirname "$root/$1")"
	gzip -9n <"$2" >"$root/$1"
	chmod 0644 "$root/$1"
}

# put_documents puts what people read.
put_documents() {
	local doc=usr/share/doc/fairlead file program
	put 0644 LICENSE "$doc/copyright"
	put 0644 deploy/fairlead.yaml "$doc/fairlead.yaml"
	for file in README.md ARCHITECTURE.md docs/*.md; do
		put 0644 "$file" "$doc/$file"
	done
	put 0644 deploy/debian/lintian-overrides usr/share/lintian/overrides/fairlead
	printf 'fairlead (%s) stable; urgency=medium\n\n  * See the history of the source.\n\n -- %s  %s\n' \
		"$debian" "$maintainer" "$(date -R -d "@$SOURCE_DATE_EPOCH")" >"$work/changelog"
	pack "$doc/changelog.gz" "$work/changelog"
	for program in fairlead loader; do
		tell "$program" man >"$work/man"
		pack "usr/share/man/man8/$program.8.gz" "$work/man"
		put_completion "$program" bash "usr/share/bash-completion/completions/$program"
		put_completion "$program" zsh "usr/share/zsh/vendor-completions/_$program"
		put_completion "$program" fish "usr/share/fish/vendor_completions.d/$program.fish"
	done
}

# tell PROGRAM ARGUMENT... has a program print something, whatever is packed.
tell() {
	if [ -n "${PROGRAMS:-}" ]; then
		"$PROGRAMS/$1" "${@:2}"
	else
		go run "./cmd/$1" "${@:2}"
	fi
}

# put_completion PROGRAM SHELL TARGET
put_completion() {
	tell "$1" completion "$2" >"$work/completion"
	put 0644 "$work/completion" "$3"
}

# put_control writes what dpkg goes by. The field takes KiB.
put_control() {
	local script
	mkdir -p "$root/DEBIAN"
	for script in postinst prerm postrm; do
		put 0755 "deploy/debian/$script" "DEBIAN/$script"
	done
	echo /etc/fairlead/fairlead.yaml >"$root/DEBIAN/conffiles"
	(cd "$root" && find usr -type f -print0 | sort -z | xargs -0r md5sum) >"$root/DEBIAN/md5sums"
	cat >"$root/DEBIAN/control" <<-EOF
		Package: fairlead
		Version: $debian
		Architecture: $1
		Maintainer: $maintainer
		Installed-Size: $(find "$root" -type f -printf '%s\n' | awk '{ n += $1 } END { print int(n / 1024) + 1 }')
		Section: net
		Priority: optional
		Description: load balancer that forwards in XDP, and proxies in user space
		 Fairlead forwards TCP and UDP packets to a virtual address in the kernel's
		 XDP hook. An agent checks the backends' health and keeps the kernel's tables
		 true to one configuration file; where XDP cannot be used, it proxies in user
		 space. It also forwards HTTP, request by request.
	EOF
	chmod 0644 "$root"/DEBIAN/{control,conffiles,md5sums}
}

maintainer=${MAINTAINER:-}
if [ -z "$maintainer" ]; then
	maintainer="The Fairlead authors <nobody@fairlead.invalid>"
	echo "package: nobody can be written to about this package: give MAINTAINER='Name <address>'" >&2
elif [[ ! $maintainer =~ ^[^\<\>,]+\ \<[^\<\>@\ ]+@[^\<\>@\ ]+\>$ ]]; then
	echo "package: MAINTAINER is '$maintainer', want 'Name <address>'" >&2
	exit 2
fi
debian=$(debian_version "$version")
mkdir -p "$out"
for arch in "$@"; do
	root=$work/$arch
	programs=${PROGRAMS:-$work/programs-$arch}
	[ -n "${PROGRAMS:-}" ] || GOOS=linux GOARCH=$arch CGO_ENABLED=0 \
		go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o "$programs/" ./cmd/loader ./cmd/fairlead
	put 0755 "$programs/fairlead" usr/bin/fairlead
	put 0755 "$programs/loader" usr/bin/loader
	put 0644 deploy/fairlead.service usr/lib/systemd/system/fairlead.service
	put 0644 deploy/debian/sysusers.conf usr/lib/sysusers.d/fairlead.conf
	put 0644 deploy/debian/fairlead.yaml etc/fairlead/fairlead.yaml
	put_documents
	put_control "$arch"
	find "$root" -type d -exec chmod 0755 {} +
	find "$root" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" --build "$root" "$out/fairlead_${debian}_$arch.deb" >/dev/null
	echo "$out/fairlead_${debian}_$arch.deb"
done
