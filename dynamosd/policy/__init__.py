# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies: YAML to checked, compiled rules (``load``), and rules to decisions (``evaluate``)."""
