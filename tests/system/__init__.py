# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the installed service, in a virtual machine with systemd: `make test-service`."""
