# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies for tests, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_POLICY = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: {name}}}
spec:
  subsystem: {subsystem}
  mode: {mode}
  interval: {interval}
  onExit: {on_exit}
  rules:
    - name: busy
      edition: {edition}
      when: {when}
  switch: {switch}
  onDaemonLoss: {on_loss}
  limits: {limits}
  sources: {sources}
{more}"""

DEFAULTS = {
    "name": "storm",
    "subsystem": "readahead",
    "mode": "enforce",
    "interval": "1s",
    "on_exit": "baseline",
    "switch": "{}",
    "on_loss": "{}",
    "limits": "{}",
    "sources": "[]",
    "more": "",
    "edition": "random",
    "when": 'in_flight("page_cache_ra_order") > 2.5',
}


def policy_text(**changed: str) -> str:
    """Give a policy that wants ``random`` while three threads are in flight."""
    return _POLICY.format(**{**DEFAULTS, **changed})


def write_policy(folder: Path, **changed: str) -> Path:
    """Put such a policy in a folder; give the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{changed.get('name', 'storm')}.yaml"
    file.write_text(policy_text(**changed))
    return file
