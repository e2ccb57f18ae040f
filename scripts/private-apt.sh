# shellcheck shell=bash
# private-apt.sh - to be sourced by scripts that download packages and install none.

debian_mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# private_apt DIRECTORY KIND SUITE makes an apt with a world of its own there, with
# the host's proxies. KIND is deb or deb-src. APT_CONFIG leads to it.
private_apt() {
	mkdir -p "$1"/{lists/partial,cache/archives/partial,etc}
	: >"$1/status"
	echo "$2 [arch=amd64 signed-by=$debian_keyring] $debian_mirror $3 main" >"$1/sources.list"
	apt-config dump | grep -E '^Acquire::(http|https)::' >"$1/apt.conf" || true
	cat >>"$1/apt.conf" <<-EOF
		Dir::Etc "$1/etc";
		Dir::Etc::SourceList "$1/sources.list";
		Dir::Etc::SourceParts "$1/etc";
		Dir::Etc::PreferencesParts "$1/etc";
		Dir::Etc::Parts "$1/etc";
		Dir::Etc::Main "/dev/null";
		Dir::State "$1";
		Dir::State::Lists "$1/lists";
		Dir::State::status "$1/status";
		Dir::Cache "$1/cache";
		APT::Architecture "amd64";
		APT::Architectures { "amd64"; };
		APT::Sandbox::User "";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::http::Timeout "30";
	EOF
	export APT_CONFIG=$1/apt.conf
}
