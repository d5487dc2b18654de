# SPDX-License-Identifier: GPL-2.0-or-later
"""Phrases that the daemon says and that are said again by who reads its records."""

from __future__ import annotations


def scope(policy: str, subsystem: str) -> str:
    """Say what a pause is about; with neither, it is about all there are."""
    if policy:
        return f"policy {policy}"
    return f"subsystem {subsystem}" if subsystem else "all policies"


def person(uid: int, login: int | None) -> str:
    """Name who asked, and who they had logged in as, if that is somebody else."""
    return f"uid {uid}" if login in {None, uid} else f"uid {uid} (login {login})"
