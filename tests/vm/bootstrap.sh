#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Brings a bare Debian bookworm to where every make target works: the missing Debian
# packages, then .venv from requirements.lock with this project installed editable.
# Does nothing, quickly, when neither list changed since the last time.
set -euo pipefail

cd "$(dirname "$0")/../.."
packages_file=tests/vm/debian-packages.txt
stamp=.venv/setup.stamp
# Debian's own interpreter, whatever `python3` is first on PATH: BCC is built for it.
python=/usr/bin/python3
export DEBIAN_FRONTEND=noninteractive

say() { echo "[setup] $*" >&2; }

fail() { # status, message
	say "error: $2"
	exit "$1"
}

fingerprint() {
	cat "$packages_file" requirements.lock pyproject.toml "$0" <(pwd) | sha256sum
}

wanted() { sed -n 's/^\([a-z0-9][a-z0-9.+-]*\).*/\1/p' "$packages_file"; }

is_installed() { # package
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
	local package missing=()
	for package in $(wanted); do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	local install=(apt-get install -y -qq --no-install-recommends "${missing[@]}")
	[ "$(id -u)" = 0 ] || fail 4 "as root, run: apt-get update && ${install[*]}"
	say "installing Debian packages: ${missing[*]}"
	local log
	log=$(mktemp)
	if ! { apt-get update -qq && "${install[@]}"; } >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		fail 1 "apt-get failed"
	fi
	rm -f "$log"
}

make_venv() {
	# Scripts in it name its folder: a tree that was moved needs a new one. Otherwise it
	# is brought up to date in place, since somebody may be running from it.
	grep -qsF "$PWD/.venv/" .venv/bin/pip || rm -rf .venv
	say "preparing .venv"
	# System packages are visible because BCC comes from Debian.
	"$python" -m venv --system-site-packages .venv
	say "installing Python packages (requirements.lock)"
	local pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check install --no-deps)
	# A mirror's missing side indexes are not news.
	"${pip[@]}" -r requirements.lock 2> >(grep -v '^WARNING: Location' >&2)
	# setuptools is in the lock: nothing else is fetched to build.
	"${pip[@]}" --no-build-isolation -e . 2> >(grep -v '^WARNING: Location' >&2)
}

[ -r /etc/debian_version ] || fail 4 "this needs Debian bookworm"
now=$(fingerprint)
[ "$(cat "$stamp" 2>/dev/null)" != "$now" ] || exit 0

mkdir -p .cache
exec 9>.cache/setup.lock
flock -n 9 || { say "waiting for another setup to end"; flock 9; }
[ "$(cat "$stamp" 2>/dev/null)" != "$now" ] || exit 0

install_packages
[ -x "$python" ] || fail 4 "$python is missing: install python3"
make_venv
printf '%s\n' "$now" >"$stamp"
say "done"
