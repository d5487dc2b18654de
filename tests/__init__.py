# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests: unit (any machine), kernel (inside a virtual machine), vm (the harness)."""
