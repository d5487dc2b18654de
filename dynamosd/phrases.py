# SPDX-License-Identifier: GPL-2.0-or-later
"""Phrases that the daemon says and that are said again by who reads its records."""

from __future__ import annotations


def scope(policy: str, subsystem: str) -> str:
    """Say what a pause is about; with neither, it is about all there are."""
    if policy:
        return f"policy {policy}"
    return f"subsystem {subsystem}" if subsystem else "all policies"


def why_quarantined(policy: str, guardrail: str, reason: str) -> str:
    """Say why the daemon keeps an edition in quarantine; ``guardrail``: "" if none was broken."""
    return f"guardrail {guardrail} of policy {policy}: {reason}" if guardrail else reason


def paused(about: str, who: str, until: str | None, reason: str) -> str:
    """Say what is paused, until when (None: until somebody ends it), by whom and why."""
    end = f" until {until}" if until else ""
    return f"{about} paused{end} by {who}" + (f": {reason}" if reason else "")


def pinned(uid: int, login: int | None, until: str | None, reason: str) -> str:
    """Say who has pinned a subsystem, until when (None: until somebody ends it) and why."""
    end = f" until {until}" if until else ""
    return f"pinned by {person(uid, login)}{end}" + (f": {reason}" if reason else "")


def person(uid: int, login: int | None) -> str:
    """Name who asked, and who they had logged in as, if that is somebody else."""
    return f"uid {uid}" if login in {None, uid} else f"uid {uid} (login {login})"


_LEFT_OFF = {
    "full": "the probes do all that policies ask for again",
    "untimed": "the probes time no calls",
    "detached": "the probes are detached; the module's exact counters go on",
}


def budget(step: str, share: float | None, limit: float) -> str:
    """Say what the probes do now; ``share`` is what cost too much, None if it is tried again."""
    said = _LEFT_OFF.get(step, step)
    if share is None:
        return f"{said}: to see whether that fits into {100.0 * limit:.3g}% of CPU now"
    return f"{said}: they took {100.0 * share:.3g}% of CPU, more than {100.0 * limit:.3g}%"
