# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds parameters of editions at what policies say, for as long as they enforce.

What a module shows of a parameter need not be what it was told (`Y` for `1`, nothing for a cgroup
that is gone): so a value is told once, and again when what is shown has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynamosd.errors import DynamosError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.journal import Journal
    from dynamosd.kmod import Kmod
    from dynamosd.model import Edition, Subsystem
    from dynamosd.policy.definition import Policy, Setting

RETRY_SECONDS = 10.0
"""After a refusal; each is an event of the module."""


@dataclass(slots=True)
class _Told:
    """What a parameter was told, and what it showed then; or why it was not taken, and when."""

    value: str
    shown: str | None = None
    refusal: str = ""
    retry_at: float = 0.0


@dataclass(slots=True)
class ParameterKeeper:
    """Holds them. ``say`` shows a line to the operator."""

    kmod: Kmod
    journal: Journal
    say: Callable[[str], None]
    _told: dict[tuple[str, str, str], _Told] = field(default_factory=dict)

    def keep(self, policy: Policy, subsystem: Subsystem, now: float) -> dict[str, str]:
        """Set what is not as the policy says; give the editions that are not, each with why.

        An edition that is not loaded is none of them.
        """
        wrong: dict[str, str] = {}
        for setting in policy.settings:
            edition = subsystem.editions.get(setting.edition)
            if edition is None:
                self._told.pop((subsystem.name, setting.edition, setting.name), None)
            elif refusal := self._keep_one(policy, subsystem.name, edition, setting, now):
                wrong.setdefault(edition.name, f"{setting}: {refusal}")
        return wrong

    def _keep_one(
        self, policy: Policy, subsystem: str, edition: Edition, setting: Setting, now: float
    ) -> str:
        key, shown = (subsystem, edition.name, setting.name), edition.parameters.get(setting.name)
        told = self._told.get(key)
        if told is not None and told.value == setting.value:
            if told.refusal and now < told.retry_at:
                return told.refusal
            if not told.refusal and told.shown == shown:
                return ""
        if told is None and shown == setting.value:
            return ""
        return self._set(policy, key, setting, shown, now)

    def _set(
        self,
        policy: Policy,
        key: tuple[str, str, str],
        setting: Setting,
        before: str | None,
        now: float,
    ) -> str:
        try:
            self.kmod.set_parameter(*key, setting.value)
        except DynamosError as error:
            self._told[key] = _Told(setting.value, None, error.message, now + RETRY_SECONDS)
            return error.message
        self._told[key] = _Told(setting.value, self.kmod.read_parameter(*key))
        subsystem, edition, name = key
        said: dict[str, Any] = {
            "policy": policy.name,
            "subsystem": subsystem,
            "edition": edition,
            "parameter": name,
            "from": before,
            "to": setting.value,
        }
        self.journal.record("parameter", "/".join(key), **said)
        self.say(f"policy {policy.name}: {subsystem} {setting}")
        return ""
