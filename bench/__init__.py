# SPDX-License-Identifier: GPL-2.0-or-later
"""What a gated call costs, and a switch: measured in a virtual machine that counts instructions."""

COUNTING = ("-icount", "shift=0,sleep=off")
"""QEMU's options for a guest whose clock counts instructions."""
