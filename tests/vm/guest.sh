#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the guest, as root, after virtme's init: finishes what a command of this
# project expects of a machine, then becomes that command, or a shell when there is none.
# DYNAMOS_RUN (from the kernel command line) is the run's folder:
#   env      shell assignments to export
#   command  what to run

set -a
# shellcheck source=/dev/null
. "$DYNAMOS_RUN/env"
set +a

is_mounted() { grep -qs " $1 " /proc/mounts; }

mount_once() { # type, place
	is_mounted "$2" || mount -t "$1" "$1" "$2"
}

mount_once debugfs /sys/kernel/debug
mount_once tracefs /sys/kernel/tracing
mount_once bpf /sys/fs/bpf
mount_once cgroup2 /sys/fs/cgroup
ip link set lo up 2>/dev/null || true

# Python looks at these; the host's home and temporary folders are not for the guest.
export HOME=/run/home TMPDIR=/run/tmp-dynamos
mkdir -p "$HOME" "$TMPDIR"
export PATH="$DYNAMOS_PROJECT/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Importing these takes a guest a minute, and one that checks itself ten; no test in there uses them.
export PYTEST_ADDOPTS="-p no:schemathesis -p no:hypothesispytest -p no:anyio ${PYTEST_ADDOPTS:-}"
export DYNAMOS_IN_VM=1 LANG=C.UTF-8 USER=root LOGNAME=root SHELL=/bin/bash

if [ -n "${DYNAMOS_DISK:-}" ]; then
	modprobe -a virtio_blk ext4
	disk=$(grep -lsx dynamos /sys/block/*/serial | cut -d/ -f4)
	if ! mount -t ext4 "/dev/$disk" "$DYNAMOS_DISK"; then
		echo "the scratch disk could not be mounted" >&2
		exit 4
	fi
	export DYNAMOS_DISK_NAME="$disk"
fi

cd "$DYNAMOS_PROJECT" || exit 4
if [ -e "$DYNAMOS_RUN/command" ]; then
	exec bash "$DYNAMOS_RUN/command"
fi
exec bash -i
