# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Prometheus for tests, with the rules of monitoring/, and the dashboard's questions."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.unit.test_monitoring import MONITORING, queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PATIENCE_SECONDS = 150.0


class Prometheus:
    """A Prometheus server on loopback with our rules, scraping one daemon.

    Args:
        folder: where its files are.
        port: where it listens.
        target: the daemon's address.
        every: the time between scrapes, and between evaluations of rules.
        patience: for how many seconds a condition is waited for.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        target: str,
        every: str = "200ms",
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Write its configuration: the example, with other times, and the daemon's address."""
        found: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
        found["global"] = {"scrape_interval": every, "evaluation_interval": every}
        found["rule_files"] = [str(MONITORING / each) for each in found["rule_files"]]
        found["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        self._config = folder / "prometheus.yaml"
        self._config.write_text(yaml.safe_dump(found))
        self._folder = folder
        self._patience = patience
        self.port = port

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Run it while the context lasts."""
        command = [
            "prometheus",
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with (
            (self._folder / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                self.wait_until(
                    lambda: self._is_ready() or process.poll() is not None, "Prometheus"
                )
                assert process.poll() is None, (self._folder / "log").read_text()
                yield
            finally:
                process.kill()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """Ask its API; a question that it refuses is no error of ours to hide."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{query}: {error.read().decode()}")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Give the samples that an expression has now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Give the alerts that fire, or are about to."""
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"]}

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds, or fail."""
        deadline = time.monotonic() + self._patience
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.2)

    def wait_for_data(self, expressions: Mapping[str, str]) -> None:
        """Wait until each has had data, and say which has none."""
        missing = dict(expressions)
        deadline = time.monotonic() + self._patience
        while missing:
            for name in [each for each in missing if self.query(missing[each])]:
                del missing[name]
            assert time.monotonic() < deadline, f"no data: {missing}"
            time.sleep(0.2)


def of_dashboard() -> dict[str, str]:
    """Give the dashboard's queries as Grafana asks them when everything is chosen."""
    values = {"$instance": ".*", "$subsystem": ".*", "$__rate_interval": "1m"}
    found = queries()
    for variable, value in values.items():
        found = {name: each.replace(variable, value) for name, each in found.items()}
    return found
