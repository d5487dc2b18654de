# SPDX-License-Identifier: GPL-2.0-or-later
"""Chromium without a window, driven by its DevTools protocol over two pipes.

A message is JSON that ends with a zero byte. Nothing but the browser itself is needed.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "chromium"
DEADLINE_SECONDS = 120.0

_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which is not for root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
)

Json = dict[str, Any]


class Page:
    """One page of a browser. ``complaints`` is what its console has of errors and warnings."""

    def __init__(self, orders: int, answers: int) -> None:
        """Talk over two pipes."""
        self._orders, self._answers = orders, answers
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        made = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": made["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> Json:
        """Let the browser do something; give its answer."""
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._orders, json.dumps(order).encode() + b"\0")
        while True:
            found = self._next(time.monotonic() + DEADLINE_SECONDS)
            if found.get("id") == number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                result: Json = found["result"]
                return result

    def _next(self, deadline: float) -> Json:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], deadline - time.monotonic())
            part = os.read(self._answers, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser does not answer")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: Json = json.loads(message)
        self._listen(found.get("method", ""), found.get("params", {}))
        return found

    def _listen(self, event: str, said: Json) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(said["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(said["args"]))
        elif event == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(f"{said['entry']['source']}: {said['entry']['text']}")

    def ask(self, expression: str) -> Any:  # noqa: ANN401 - whatever the script gives
        """Give what a script's expression is, once its promise is kept."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true. The page looks itself, at each of its frames."""
        end = time.monotonic() + DEADLINE_SECONDS
        while not self.ask(f"Boolean({expression})"):
            if time.monotonic() > end:
                text = self.ask("document.body.innerText")
                raise TimeoutError(f"not so: {expression}\n{text}\n{self.complaints}")
            time.sleep(0.05)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has been loaded."""
        self.call("Page.navigate", url=url)
        self.wait_for(f"document.readyState == 'complete' && location.href == {json.dumps(url)}")

    def text(self, selector: str) -> str:
        """Give the text of an element."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, key: str) -> None:
        """Press a key, and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **_CODES.get(key, {}))

    def be(self, width: int, height: int, **media: str) -> None:
        """Have a size and what a person prefers, e.g. ``prefers_color_scheme="dark"``."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": n.replace("_", "-"), "value": value} for n, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Put a picture into a file."""
        made = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(made["data"]))


_CODES: dict[str, Json] = {
    "Tab": {"windowsVirtualKeyCode": 9},
    "End": {"windowsVirtualKeyCode": 35},
    "Home": {"windowsVirtualKeyCode": 36},
    "ArrowLeft": {"windowsVirtualKeyCode": 37},
    "ArrowRight": {"windowsVirtualKeyCode": 39},
}


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run a browser whose files are in a folder; give a page of it."""
    orders_out, orders = os.pipe()
    answers, answers_in = os.pipe()
    words = [PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{orders_out} 4>&{answers_in}', "bash", *words],
            pass_fds=(orders_out, answers_in),
            env={**os.environ, "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    os.close(orders_out)
    os.close(answers_in)
    try:
        yield Page(orders, answers)
    finally:
        os.close(orders)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(answers)
