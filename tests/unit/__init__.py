# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests that need no kernel module; the folders mirror dynamosd/."""
