# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the kernel module, inside a virtual machine: `make test-kernel`."""
