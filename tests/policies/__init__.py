# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped policies: a trace in, decisions out."""
