# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal's records for systemd's journal too, with fields that ``journalctl`` can ask for.

By its native protocol: one datagram a record. Nothing here waits: a record that cannot be sent at
once is dropped and counted; the daemon's own journal has it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynamosd.datagrams import Send, sender, to_nobody

SOCKET = "/run/systemd/journal/socket"

_IDENTIFIER = "dynamosd"
_NAMESPACE = uuid.UUID("8a9c0c2e-5a0b-4d53-9d0e-2f0d9b1c7a64")
"""Ours, made up once: each kind's MESSAGE_ID is made of it and never changes."""

_WARNING, _NOTICE, _INFO, _DEBUG = 4, 5, 6, 7
_PRIORITIES = {
    "switch": _NOTICE,
    "quarantine": _WARNING,
    "trouble": _WARNING,
    "reload_failed": _WARNING,
    "module_gone": _WARNING,
    "probe_lost": _WARNING,
    "budget": _WARNING,
    "decision": _DEBUG,
}

_FIELDS = {
    "DYNAMOS_SUBSYSTEM": ("subsystem",),
    "DYNAMOS_POLICY": ("policy",),
    "DYNAMOS_EDITION": ("edition", "to", "target"),
    "DYNAMOS_FROM": ("from",),
    "DYNAMOS_RESULT": ("result",),
    "DYNAMOS_REASON": ("reason", "error"),
}
"""A field has the first of these that the record has, and that is not empty."""


@dataclass(slots=True)
class Journald:
    """The systemd journal; without ``send``, none is there."""

    send: Send = to_nobody
    dropped: int = 0

    def take(self, record: Mapping[str, Any]) -> None:
        """Send a record, or count it."""
        if self.send is to_nobody:
            return
        try:
            self.send(b"".join(_field(name, value) for name, value in _fields(record)))
        except OSError:
            self.dropped += 1


def from_environment(environ: Mapping[str, str]) -> Journald:
    """Give the journal that systemd has connected us to, if it has."""
    return Journald(sender(SOCKET)) if environ.get("JOURNAL_STREAM") else Journald()


def message_id(kind: str) -> str:
    """Give the id by which systemd knows a kind of record."""
    return uuid.uuid5(_NAMESPACE, kind).hex


def _fields(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind = str(record["kind"])
    wrong = kind == "switch" and record.get("result") != "ok"
    yield "MESSAGE", _message(kind, record)
    yield "PRIORITY", str(_WARNING if wrong else _PRIORITIES.get(kind, _INFO))
    yield "SYSLOG_IDENTIFIER", _IDENTIFIER
    yield "MESSAGE_ID", message_id(kind)
    yield "DYNAMOS_KIND", kind
    for name, keys in _FIELDS.items():
        if found := next((str(record[key]) for key in keys if record.get(key)), ""):
            yield name, found
    yield "DYNAMOS_RECORD", json.dumps(record)


def _message(kind: str, record: Mapping[str, Any]) -> str:
    """Say it in a line, e.g. ``switch readahead: original -> random ok: rule storm: …``."""
    about = record.get("subsystem") or record.get("policy") or ""
    edition = record.get("to") or record.get("edition") or record.get("target") or ""
    arrow = f"{record['from']} -> {edition}" if record.get("from") else edition
    words = (record.get("command"), arrow, record.get("result"))
    done = " ".join(str(each) for each in words if each)
    why = record.get("error") or record.get("reason") or ""
    said = ": ".join(str(each) for each in (f"{kind} {about}".strip(), done, why) if each)
    return " ".join(said.split())


def _field(name: str, value: str) -> bytes:
    """Encode a field; one of several lines is told by its length."""
    raw = value.encode(errors="replace")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
