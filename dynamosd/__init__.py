# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd: a running Linux kernel that changes its own functions to fit its workload."""

__version__ = "0.1.0"
