# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP interface: what the daemon shows of itself, on the metrics' address and on a socket."""
