# SPDX-License-Identifier: GPL-2.0-or-later
"""What the shipped editions gain, and where they harm: `make bench-editions`."""
