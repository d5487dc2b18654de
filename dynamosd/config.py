# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's own settings: ``DIR/dynamosd.yaml``, and where the policies are.

Everything has a default, so the file may be missing. A key that is not known is an error, at its
line and column: a setting that is silently not in force is worse than a daemon that won't start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel

from dynamosd import journal, recording
from dynamosd.api.address import Address, parse_address
from dynamosd.budget import DEFAULT_LIMIT, parse_share
from dynamosd.errors import InvalidInput
from dynamosd.labels import BUILT_IN, HOSTNAME, KERNEL, MAX_LABELS, check_name, check_text
from dynamosd.policy.durations import parse_duration
from dynamosd.policy.positions import Document, read_document
from dynamosd.policy.problems import PolicyErrors, Problem, Severity, did_you_mean
from dynamosd.signals import DEFAULT_WINDOW_SECONDS
from dynamosd.status import RUNTIME_DIR

FILE = "dynamosd.yaml"
POLICIES = "policies.d"
VENDOR_POLICIES = Path("/usr/lib/dynamosd/policies.d")
RECORDINGS = "recordings"
ORDERS = "orders.json"
QUARANTINES = "quarantines.json"
LAST_SWITCHES = "last-switches.json"
METRICS_ADDRESS = "127.0.0.1:9947"

MIN_WINDOW_SECONDS = 0.2
MAX_WINDOW_SECONDS = 3600.0
MAX_GUARD_SECONDS = 7 * 86400.0


class ConfigErrors(PolicyErrors):
    """The settings file cannot be used."""

    code = "invalid_config"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force. ``folder`` is what was given with ``--config``."""

    folder: Path
    metrics_address: Address
    journal: Path
    runtime_dir: Path
    window_seconds: float
    recording_folder: Path | None = None
    recording_bytes: int = recording.MAX_BYTES
    recording_keep: int = recording.KEEP
    watch: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    """All labels of the host, those too that are there by themselves."""
    vendor_policies: Path = VENDOR_POLICIES
    boot_guard_seconds: float = 300.0
    boot_guard_quarantine_seconds: float = 3600.0
    probe_budget: float = DEFAULT_LIMIT

    @property
    def orders(self) -> Path:
        """The file of pauses, pins and muted advice, beside the journal."""
        return self.journal.parent / ORDERS

    @property
    def quarantines(self) -> Path:
        """The file of editions that have broken a guardrail, beside the journal."""
        return self.journal.parent / QUARANTINES

    @property
    def last_switches(self) -> Path:
        """The file of the boot-loop guard, beside the journal."""
        return self.journal.parent / LAST_SWITCHES

    @property
    def recordings(self) -> Path:
        """The folder of the recordings; beside the journal, if it was not given."""
        return self.recording_folder or self.journal.parent / RECORDINGS

    @property
    def policies(self) -> tuple[Path, ...]:
        """The policy files that count. Looked up each time, for files come and go."""
        return policy_files(self.folder, self.vendor_policies)


def policy_files(folder: Path, vendor: Path = VENDOR_POLICIES) -> tuple[Path, ...]:
    """Give the policy files of a ``--config`` folder, in the order of their names.

    They are those in ``policies.d``, and those in ``vendor`` of which there is none of the same
    name; one that is a link to ``/dev/null`` takes that away and is none itself. A folder without
    ``policies.d`` is one of policies, and has no others.

    Raises:
        InvalidInput: a folder cannot be read.
    """
    below = folder / POLICIES
    found = _policies_in(below if below.is_dir() else folder)
    if below.is_dir() and vendor.is_dir():
        found = _policies_in(vendor) | found
    return tuple(found[name] for name in sorted(found) if not _is_nothing(found[name]))


def _policies_in(folder: Path) -> dict[str, Path]:
    try:
        found = list(folder.iterdir())
    except OSError as error:
        message = f"cannot read {folder}: {error.strerror}"
        raise InvalidInput(message, hint="give a folder of policies with --config") from error
    return {
        path.name: path
        for path in found
        if path.suffix in {".yaml", ".yml"} and path.name != FILE and not path.name.startswith(".")
    }


def _is_nothing(path: Path) -> bool:
    return path.is_symlink() and path.readlink() == Path(os.devnull)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Metrics(_Section):
    address: str = METRICS_ADDRESS

    @field_validator("address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        try:
            parse_address(text)
        except InvalidInput as error:
            raise ValueError(f"{error.message} ({error.hint})") from error
        return text


class _Journal(_Section):
    path: str = Field(default=str(journal.PATH), min_length=1)


class _Recording(_Section):
    path: str | None = Field(default=None, min_length=1)
    max_bytes: int = Field(default=recording.MAX_BYTES, ge=64 * 1024, le=1024**3)
    keep: int = Field(default=recording.KEEP, ge=0, le=1000)


class _Probes(_Section):
    budget: str = f"{100.0 * DEFAULT_LIMIT:g}%"

    @field_validator("budget")
    @classmethod
    def _is_share(cls, text: str) -> str:
        parse_share(text)
        return text


class _BootGuard(_Section):
    within: str = "5m"
    quarantine: str = "1h"

    @field_validator("within", "quarantine")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if parse_duration(text) > MAX_GUARD_SECONDS:
            raise ValueError("at most 7d")
        return text


def _label_name(name: str) -> str:
    if name in BUILT_IN:
        raise ValueError(f'every host has a label "{name}" by itself')
    return check_name(name)


_LabelName = Annotated[str, AfterValidator(_label_name)]
_LabelText = Annotated[str, AfterValidator(check_text)]


class _File(_Section):
    metrics: _Metrics = Field(default_factory=_Metrics)
    journal: _Journal = Field(default_factory=_Journal)
    recording: _Recording = Field(default_factory=_Recording)
    probes: _Probes = Field(default_factory=_Probes)
    boot_guard: _BootGuard = Field(default_factory=_BootGuard)
    runtime_dir: str = Field(default=str(RUNTIME_DIR), min_length=1)
    window: str = f"{DEFAULT_WINDOW_SECONDS:g}s"
    watch: bool = False
    labels: dict[_LabelName, _LabelText] = Field(default_factory=dict, max_length=MAX_LABELS)
    vendor_policies: str = Field(default=str(VENDOR_POLICIES), min_length=1)

    @field_validator("window")
    @classmethod
    def _is_window(cls, text: str) -> str:
        if not MIN_WINDOW_SECONDS <= parse_duration(text) <= MAX_WINDOW_SECONDS:
            raise ValueError("a window is between 200ms and 1h")
        return text


def load(folder: Path) -> Config:
    """Read the settings of a folder.

    Raises:
        ConfigErrors: the file is wrong; ``problems`` says where.
        InvalidInput: the folder or the file cannot be read.
    """
    if not folder.is_dir():
        message = f"{folder} is not a folder"
        raise InvalidInput(message, hint="give a folder of policies with --config")
    settings = _read(folder / FILE)
    return Config(
        folder,
        parse_address(settings.metrics.address),
        Path(settings.journal.path),
        Path(settings.runtime_dir),
        parse_duration(settings.window),
        Path(settings.recording.path) if settings.recording.path else None,
        settings.recording.max_bytes,
        settings.recording.keep,
        settings.watch,
        host_labels(settings.labels),
        Path(settings.vendor_policies),
        parse_duration(settings.boot_guard.within),
        parse_duration(settings.boot_guard.quarantine),
        parse_share(settings.probes.budget),
    )


def host_labels(given: Mapping[str, str]) -> dict[str, str]:
    """Give all labels of this host; ``given`` are those of the settings."""
    uname = os.uname()
    return {HOSTNAME: uname.nodename, KERNEL: uname.release, **given}


def _read(file: Path) -> _File:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}") from error
    document, problems = read_document(raw, str(file))
    if any(problem.code == "empty-file" for problem in problems):
        return _File()
    if document is None or problems:
        raise ConfigErrors(problems)
    try:
        return _File.model_validate(document.data)
    except ValidationError as error:
        raise ConfigErrors([_problem(file, document, each) for each in error.errors()]) from None


def _problem(file: Path, document: Document, error: Any) -> Problem:  # noqa: ANN401 - pydantic's
    """Say what pydantic found, in our words and at its place in the file."""
    path = tuple(error["loc"])
    message, code, hint = error["msg"].removeprefix("Value error, "), "invalid-value", ""
    message = message[:1].lower() + message[1:]
    place = document.place_of(path)
    if error["type"] == "extra_forbidden":
        message, code = f'unknown key "{path[-1]}"', "unknown-key"
        hint = did_you_mean(str(path[-1]), _keys(path[:-1]))
        place = document.place_of_key(path)
    return Problem(str(file), place.line, place.column, Severity.ERROR, message, code, hint)


def _keys(path: tuple[str | int, ...]) -> list[str]:
    """Give the keys that may stand at a place in the file."""
    section: type[BaseModel] = {
        "metrics": _Metrics,
        "journal": _Journal,
        "recording": _Recording,
        "probes": _Probes,
        "bootGuard": _BootGuard,
    }.get(str(path[0]) if path else "", _File)
    return [field.alias or name for name, field in section.model_fields.items()]
