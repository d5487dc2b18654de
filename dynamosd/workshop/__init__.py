# SPDX-License-Identifier: GPL-2.0-or-later
"""From a kernel function's name to an edition of it: what an author has to know of the function.

All of it is read from the kernel that runs, and nothing is changed or attached.
"""
