# SPDX-License-Identifier: GPL-2.0-or-later
"""Run fio and hear of its progress while it runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_DECODER = json.JSONDecoder()


class FioError(Exception):
    """fio did not do what it was told; the message is its own."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes that fio has asked for, and the seconds that took, without fio's own start-up."""

    asked: int = 0
    seconds: float = 0.0


def run(data: Path, options: Sequence[str], progress: Callable[[Progress], None]) -> None:
    """Read ``data`` with fio in pages of 4 KiB.

    ``progress`` is called about once a second, and once more at the end. fio is kept from giving
    the kernel advice (madvise, fadvise): the programs that this demo is about give none.
    """
    command = [
        "fio",
        "--name=demo",
        f"--filename={data}",
        f"--size={data.stat().st_size}",
        "--readonly",
        "--bs=4k",
        "--fadvise_hint=0",
        "--output-format=json",
        "--status-interval=1",
        *options,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as fio:
        assert fio.stdout is not None
        assert fio.stderr is not None
        for report in _reports(fio.stdout):
            job = report["jobs"][0]
            if job["error"]:
                raise FioError(f"fio failed with error {job['error']}")
            progress(Progress(int(job["read"]["io_bytes"]), job["read"]["runtime"] / 1000))
        message = fio.stderr.read()
    if fio.returncode:
        raise FioError(f"fio ended with status {fio.returncode}: {message.strip()}")


def _reports(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """Take the JSON documents apart that fio prints one behind the other."""
    text = ""
    for line in stream:
        text += line
        if line.rstrip() != "}":
            continue
        start = text.find("{")
        try:
            document, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError:
            continue
        text = text[end:]
        yield document
