#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs the guest's command when systemd is the first process; then the guest goes down.
ports=/dev/virtio-ports

# One writer at a time may have a port open: who opens these by name gets others.
ln -sf "$ports/virtme.dev_stdout" /dev/stdout
ln -sf "$ports/virtme.dev_stderr" /dev/stderr

bash "$(dirname "$0")/../guest.sh" </dev/null >"$ports/virtme.stdout" 2>"$ports/virtme.stderr"
echo $? >"$ports/virtme.ret"
sync
systemctl poweroff --force --force
