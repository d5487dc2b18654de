# SPDX-License-Identifier: GPL-2.0-or-later
"""Is a kernel module fit to be loaded as an edition: everything that can be told from its file.

The file may be anything: cut off, of another kernel, or made to mislead. Nothing in it is believed
before it has been looked at, and no work that it asks for is larger than the file itself.
"""
