# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that can be done to the module, at random and at once, and what must hold meanwhile.

`standing`, `invariants`, `answers`, `leaks` are pure, and have their tests in tests/unit/torture.
"""
