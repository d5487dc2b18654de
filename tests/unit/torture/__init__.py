# SPDX-License-Identifier: GPL-2.0-or-later
"""Unit tests of what judges the torture of the module: tests.kernel.torture."""
