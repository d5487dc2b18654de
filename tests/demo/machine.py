# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that the demo runs on: its disk, its page cache, its module and its daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dynamosd.kmod import Kmod
from dynamosd.signals import ALL, SEQUENTIAL_SHARE, SIGNAL_KEYS
from tests.demo.model import Observation, Switch

SUBSYSTEM = "readahead"
SHARE = (SEQUENTIAL_SHARE, "page_cache_ra_order", ALL)
MODULES = (
    "dynamos",
    "dynamos_readahead",
    "dynamos_readahead_random",
    "dynamos_readahead_streaming",
)
METRICS = "http://127.0.0.1:9947/metrics"
SECTOR = 512
START_DEADLINE = 600.0
STOP_DEADLINE = 120.0


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class BlockDevice:
    """Bytes read from the device that holds a file."""

    def __init__(self, file: Path) -> None:
        device = file.stat().st_dev
        self._stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")

    def bytes_read(self) -> int:
        """Since the machine was started."""
        return int(self._stat.read_text().split()[2]) * SECTOR


def drop_caches() -> None:
    """Begin each phase with an empty page cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def load_modules(folder: Path) -> None:
    """Load the module, the subsystem and its editions, from the files in ``folder``."""
    for name in MODULES:
        done = subprocess.run(
            ["insmod", str(folder / f"{name}.ko")], capture_output=True, text=True
        )
        if done.returncode:
            raise DemoError(f"{name} could not be loaded: {done.stderr.strip()}")


def unload_modules() -> None:
    """Take everything out again; the kernel's text is as it was."""
    loaded = Path("/proc/modules").read_text()
    for name in reversed(MODULES):
        if f"{name} " in loaded:
            subprocess.run(["rmmod", name], check=True)


def observe_module() -> Observation:
    """Ask the module itself: for when no daemon runs."""
    subsystem = Kmod().read().subsystems[SUBSYSTEM]
    functions = subsystem.functions.values()
    return Observation(
        active=subsystem.active,
        calls={one.name: sum(count.calls for count in one.counts.values()) for one in functions},
        in_flight={
            one.name: sum(count.in_flight for count in one.counts.values()) for one in functions
        },
        sequential_share=None,
    )


def observe_metrics() -> Observation:
    """Scrape the daemon, as Prometheus does."""
    with urllib.request.urlopen(METRICS, timeout=30) as answer:
        text = answer.read().decode()
    active, share = "", None
    calls: dict[str, int] = {}
    in_flight: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name == "dynamos_edition_active" and sample.value == 1:
                active = labels["edition"]
            elif sample.name == "dynamos_function_calls_total":
                calls[labels["function"]] = calls.get(labels["function"], 0) + int(sample.value)
            elif sample.name == "dynamos_function_in_flight_threads":
                in_flight[labels["function"]] = in_flight.get(labels["function"], 0) + int(
                    sample.value
                )
            elif sample.name == "dynamos_signal" and tuple(map(labels.get, SIGNAL_KEYS)) == SHARE:
                share = sample.value
    return Observation(active=active, calls=calls, in_flight=in_flight, sequential_share=share)


@contextmanager
def daemon(config: Path, journal: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Run dynamosd while the body runs; it must come up, stay up and leave cleanly.

    Its probes may cost what they will: an emulated CPU takes a hundred times as long for them.
    """
    command = [sys.executable, "-m", "dynamosd", "run"]
    command += ["--config", str(config), "--journal", str(journal), "--probe-budget", "100%"]
    began = time.monotonic()
    with subprocess.Popen(command) as process:
        try:
            while not _is_ready():
                if process.poll() is not None:
                    raise DemoError(f"dynamosd ended with status {process.returncode}")
                if time.monotonic() - began > START_DEADLINE:
                    raise DemoError("dynamosd did not get ready")
                time.sleep(0.5)
            say(f"dynamosd is ready after {time.monotonic() - began:.0f} s; metrics at {METRICS}")
            yield
        finally:
            process.terminate()
            status = process.wait(STOP_DEADLINE)
        if status:
            raise DemoError(f"dynamosd left with status {status}")


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen(METRICS.replace("/metrics", "/-/ready"), timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def read_switches(journal: Path) -> tuple[Switch, ...]:
    """The switches that the daemon made on its own, as its journal has them."""
    switches = []
    offset = time.time() - time.monotonic()
    for line in journal.read_text().splitlines():
        record = json.loads(line)
        if (
            record.get("kind") == "switch"
            and record.get("trigger") == "policy"
            and record.get("result") == "ok"
        ):
            when = record["time_seconds"] - offset
            switches.append(Switch(when, record["from"], record["to"], record["reason"]))
    return tuple(switches)
