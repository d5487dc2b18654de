# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's page in a browser: its driver, and an hour to be shown; `make screenshots`."""
