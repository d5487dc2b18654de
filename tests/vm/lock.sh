#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Resolves requirements.in in a throw-away environment that sees no system package, so
# that the lock names everything, and pins what came out.
set -euo pipefail

cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install --upgrade -r requirements.in \
	2> >(grep -v '^WARNING: Location' >&2)
{
	echo "# SPDX-License-Identifier: GPL-2.0-or-later"
	echo "# Everything that .venv holds, pinned. Refresh: edit requirements.in, run \`make lock\`."
	"$work/venv/bin/pip" freeze --all --exclude pip
} >"$work/lock"
mv "$work/lock" requirements.lock
