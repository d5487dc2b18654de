# SPDX-License-Identifier: GPL-2.0-or-later
"""``make screenshots``: the page as the README shows it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.page.browser import browser
from tests.page.hour import Hour

FILE = Path(__file__).parents[2] / "docs/page.png"
WIDTH, HEIGHT = 920, 1040
MAX_BYTES = 150_000


def main() -> None:
    """Take the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hour = Hour(folder / "hour")
        with hour.served(folder) as server, browser(folder) as page:
            page.be(WIDTH, HEIGHT, prefers_color_scheme="light")
            page.open(f"http://127.0.0.1:{server.port}/")
            page.wait_for("document.querySelectorAll('#decisions li').length > 3")
            page.screenshot(FILE, whole=False)
    if FILE.stat().st_size > MAX_BYTES:
        sys.exit(f"{FILE} is larger than {MAX_BYTES} bytes")


if __name__ == "__main__":
    main()
