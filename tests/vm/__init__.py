# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machine harness: kernels, module builds, scratch disks, runs.

Standard library only and no import of the daemon, so that the parts that prepare a
machine run under the distribution's bare Python.
"""
