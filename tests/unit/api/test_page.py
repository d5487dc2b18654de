# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.api.page: a browser shows what the daemon says, to everyone, and nothing else runs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynamosd.api import server as api_server
from dynamosd.api import static
from dynamosd.api.timeline import Change
from dynamosd.model import Standing
from dynamosd.status import SOCKET
from tests.page.browser import PROGRAM, Page, browser
from tests.page.hour import Hour
from tests.unit.api.test_server import get, get_local, head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamosd.api.documents import View
    from dynamosd.api.server import ApiServer
    from tests.unit.api.conftest import Answers

ROOT = Path(__file__).resolve().parents[3]
ARTEFACTS = ROOT / ".cache/artefacts"
SECONDS = 240
EVIL = "<script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"


# ------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("path", static.FILES)
def test_files_come_with_headers_that_let_nothing_else_in(
    server: ApiServer, answers: Answers, path: str
) -> None:
    status, body, kind = get(server, path)
    name, form = static.FILES[path]
    assert (status, kind) == (200, f"{form}; charset=utf-8")
    assert body == (static.FOLDER / name).read_bytes()
    assert get_local(answers.journal.parent, path) == (status, body, kind)
    found = head(server, path)
    policy = dict(each.split(" ", 1) for each in found["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("img-src") == "'self' data:"
    assert {policy.pop(f"{each}-src") for each in ("script", "style", "connect")} == {"'self'"}
    assert policy == dict.fromkeys(("base-uri", "frame-ancestors", "form-action"), "'none'")
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Referrer-Policy"] == "no-referrer"
    assert found["Cache-Control"] == "no-cache"


def test_every_file_is_served_and_packaged() -> None:
    assert {each.name for each in static.FOLDER.iterdir()} == {n for n, _ in static.FILES.values()}
    project = (ROOT / "pyproject.toml").read_text()
    assert '"dynamosd.api" = ["page/*"]' in project


def test_file_that_is_not_installed_is_said(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static._read.cache_clear()
    monkeypatch.setattr(static, "FOLDER", tmp_path)
    status, body, _ = get(server, "/page.js")
    assert (status, json.loads(body)["detail"]) == (404, "page.js is not installed")


def test_the_script_makes_no_markup_of_what_it_is_told() -> None:
    script = (static.FOLDER / "page.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser"):
        assert word not in script
    assert not re.search(r"\beval\b|\bFunction\(|setHTML|createContextualFragment|srcdoc", script)


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    texts = {name: (static.FOLDER / name).read_text() for name, _ in static.FILES.values()}
    for text in texts.values():
        found = set(re.findall(r"(?:https?:)?//[a-z][\w.]*", text))
        assert found <= {"http://www.w3.org"}
        assert "@import" not in text
    assert not re.search(r"<style|style=|\son\w+=|<script(?! src=)", texts["index.html"])


def _colours() -> list[dict[str, str]]:
    css = (static.FOLDER / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#\w{6});", each)) for each in (light, dark)]


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", _colours(), ids=["light", "dark"])
def test_contrast_is_enough_for_text_and_for_bands(colours: dict[str, str]) -> None:
    assert len(colours) == 18
    pairs = [
        *itertools.product(("text", "dim", "link"), ("page", "card")),
        *itertools.product(("good", "bad"), ("page", "card")),
        ("bad", "bad-card"),
        *(("on-band", f"band-{n}") for n in range(7)),
    ]
    low = [(a, b) for a, b in pairs if _contrast(colours[a], colours[b]) < 4.5]
    shapes = [*(f"band-{n}" for n in range(7)), "unknown"]
    low += [(a, "card") for a in shapes if _contrast(colours[a], colours["card"]) < 3.0]
    assert low == []


# ----------------------------------------------------------------------------------- the browser


@pytest.fixture(autouse=True)
def _nobody_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "DEADLINE_SECONDS", 3600.0)


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Hour:
    """Give some minutes of a daemon."""
    return Hour(tmp_path_factory.mktemp("hour"), SECONDS)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Run a browser."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def page(chromium: Page) -> Iterator[Page]:
    """Give a page of it, which complains of nothing in the end."""
    chromium.be(1200, 900, prefers_color_scheme="light")
    yield chromium
    complaints, chromium.complaints = list(chromium.complaints), []
    chromium.open("about:blank")
    chromium.complaints.clear()
    assert complaints == []


@pytest.fixture
def shown(page: Page, hour: Hour, tmp_path: Path) -> Iterator[Page]:
    """Give the page with the hour on it."""
    with hour.served(tmp_path) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("document.querySelectorAll('#decisions li').length > 3")
        yield page


def test_shows_subsystems_bands_policies_decisions_and_signals(shown: Page) -> None:
    names = shown.ask("[...document.querySelectorAll('#subsystems h3')].map(e => e.textContent)")
    assert names == ["pipe", "readahead"]
    labels = shown.ask(
        "[...document.querySelectorAll('#subsystems article:nth-child(2) g')]"
        ".map(e => e.getAttribute('aria-label'))"
    )
    assert [each.split(",")[0] for each in labels] == [
        *("original", "random", "original", "streaming", "original", "random", "original")
    ]
    assert "policy readahead, rule random: rule random: calls_rate" in labels[1]
    assert "by hand" in shown.text("#subsystems article:nth-child(1) table")
    assert "quarantine" in shown.text("#policies")
    assert "policy pipe-storm" in shown.text("#holds")
    assert "the backup runs" in shown.text("#holds")
    assert "streaming of readahead" in shown.text("#holds")
    assert "original of pipe" in shown.text("#holds")
    assert "not tonight" in shown.text("#holds")
    assert "pipe: original is pinned until " in shown.text("#decisions")
    assert "original → random (policy readahead, rule random)" in shown.text("#decisions")
    assert shown.ask("document.querySelectorAll('#signals figure path[d^=M]').length") > 5
    assert "calls per second over the window" in shown.text("#signal-table")
    shown.wait_for("state.textContent.startsWith('The loop ticks, last at ')")


def test_bands_lie_where_their_times_are(page: Page, hour: Hour, tmp_path: Path) -> None:
    one = "#subsystems article:nth-child(2)"
    with hour.served(tmp_path, lambda: hour.view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("document.querySelectorAll('#decisions li').length > 3")
        edges = "const {left, right} = it.getBoundingClientRect(); return [left, right]"
        boxes = page.ask(
            f"[...document.querySelectorAll('{one} g')]"
            f".map(g => g.querySelector('rect')).map(it => {{ {edges} }})"
        )
        left, right = page.ask(f"(it => {{ {edges} }})(document.querySelector('{one} svg'))")
    assert boxes[-1][1] == pytest.approx(right, abs=2.0)
    assert boxes[0][0] == pytest.approx(right - (right - left) * SECONDS / 3600, abs=2.0)
    for earlier, later in itertools.pairwise(boxes):
        assert earlier[1] == pytest.approx(later[0], abs=1.5)


def test_part_of_the_calls_is_a_part_of_the_band(page: Page, hour: Hour, tmp_path: Path) -> None:
    line = hour.view.timeline
    end = line.points[-1].time
    part = Change(end - 60.0, Standing("original", "random", scope="share:1/100"))
    unseen = Change(end - 30.0, None)
    changed = dataclasses.replace(line, changes={"readahead": (part, unseen)})
    view = dataclasses.replace(hour.view, timeline=changed)
    with hour.served(tmp_path, lambda: view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("document.querySelectorAll('.bands g').length == 2")
        bands = page.ask(
            "[...document.querySelectorAll('.bands g')].map(g => [g.getAttribute('aria-label'),"
            " ...[...g.querySelectorAll('rect')].map(r =>"
            " getComputedStyle(r).visibility == 'visible' && r.getAttribute('class'))])"
        )
    assert bands[0][0].startswith("original, random in part (share:1/100), from ")
    assert bands[0][1:] == ["band-0", "band-1"]
    assert bands[1][0].startswith("not to be seen, from ")
    assert bands[1][1:] == ["band-unknown", False]


def test_what_it_is_told_is_text(page: Page, hour: Hour, tmp_path: Path) -> None:
    view = _evil(hour.live())
    with hour.served(tmp_path, lambda: view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("document.querySelectorAll('#decisions li').length > 3")
        for where in ("#subsystems", "#policies", "#holds", "#decisions", "#signals", "#version"):
            assert EVIL in page.text(where), where
        assert page.ask("window.evil") is None
        assert page.ask("document.querySelectorAll('main script, main img').length") == 0


def _evil(view: View) -> View:
    """Let every name and reason of a view be one that a browser must not believe."""

    def spoil(found: object) -> object:
        if isinstance(found, dict):
            return {key: spoil(value) for key, value in found.items()}
        if isinstance(found, list):
            return [spoil(each) for each in found]
        return f"{found} {EVIL}" if isinstance(found, str) else found

    status = json.loads(view.status)
    spoiled = spoil(status)
    assert isinstance(spoiled, dict)
    spoiled["updated"] = status["updated"]
    for name in ("pins", "pauses", "quarantines"):
        for before, after in zip(status[name], spoiled[name], strict=True):
            after["until"] = before["until"]
    for each in spoiled["last_switches"].values():
        each["time"] = status["updated"]
    line = view.timeline
    records = [
        dataclasses.replace(
            each,
            record={
                key: value if key in {"kind", "result", "until"} else spoil(value)
                for key, value in each.record.items()
            },
        )
        for each in line.records
    ]
    timeline = dataclasses.replace(
        line,
        changes={f"{name} {EVIL}": each for name, each in line.changes.items()},
        series=tuple(dataclasses.replace(each, text=f"{each.text} {EVIL}") for each in line.series),
        records=tuple(records),
    )
    return dataclasses.replace(view, status=json.dumps(spoiled), timeline=timeline)


def test_server_that_is_gone_is_said_with_the_age_and_when_it_is_back(
    page: Page, hour: Hour, tmp_path: Path
) -> None:
    with hour.served(tmp_path) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("state.dataset.state == 'fresh'")
        page.ask("fetch(new Request('x')).catch(() => 0)")  # whatever it says is not of the page
    page.wait_for("state.dataset.state == 'stale'")
    said = page.text("#state")
    assert said.startswith("The daemon does not answer. What is shown here is of ")
    assert re.search(r"\d+ s ago\.$", said)
    page.wait_for(f"state.textContent != {json.dumps(said)}")
    assert page.ask("document.title") == "(stale) dynamosd"
    assert "readahead" in page.text("#subsystems")
    refused = [each for each in page.complaints if not re.search("ERR_|404", each)]
    page.complaints.clear()
    assert refused == []


def test_loop_that_hangs_is_said(page: Page, hour: Hour, tmp_path: Path) -> None:
    with hour.served(tmp_path, lambda: hour.view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("/its loop has not ticked for [1-9]/.test(state.textContent)")
        assert "What is shown here is of " in page.text("#state")


def test_module_that_is_gone_is_said(page: Page, hour: Hour, tmp_path: Path) -> None:
    def gone() -> View:
        status = {**json.loads(hour.live().status), "module": None}
        return dataclasses.replace(hour.view, kernel=None, status=json.dumps(status))

    with hour.served(tmp_path, gone) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("state.textContent.endsWith(', but the kernel module is gone')")
        assert "The kernel module does not show it now." in page.text("#subsystems")


def test_before_the_first_tick_nothing_is_known(page: Page, hour: Hour, tmp_path: Path) -> None:
    view = type(hour.view)(hour.view.journal)
    with hour.served(tmp_path, lambda: view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("state.dataset.state == 'stale'")
        text = "The daemon says: the daemon has not looked yet. Nothing is known yet."
        assert page.text("#state") == text
        assert page.ask("main.hidden")
        view = hour.live()
        page.wait_for("state.dataset.state == 'fresh' && !main.hidden")
    told = [each for each in page.complaints if "503" not in each]
    page.complaints.clear()
    assert told == []


def test_live_decisions_are_told_politely_and_only_they(
    page: Page, hour: Hour, tmp_path: Path
) -> None:
    line = hour.view.timeline
    fewer = dataclasses.replace(line, records=line.records[:-3])
    views = [dataclasses.replace(hour.view, timeline=each) for each in (fewer, line)]
    is_late = False

    def view() -> View:
        return dataclasses.replace(views[is_late], status=hour.live().status)

    with hour.served(tmp_path, view) as server:
        page.open(f"http://127.0.0.1:{server.port}/")
        page.wait_for("decisions.children.length > 3 && decisions.ariaLive == 'polite'")
        page.ask("void (window.first = decisions.firstChild)")
        before = page.ask("decisions.children.length")
        is_late = True
        page.wait_for(f"decisions.children.length == {before + 3}")
        assert page.ask("first === decisions.children[3]"), "what is there stays the same node"
    live = page.ask("[...document.querySelectorAll('[aria-live]')].map(e => e.id)")
    assert live == ["decisions"]


def test_hidden_tab_asks_nothing(shown: Page) -> None:
    shown.wait_for("timer > 0")
    shown.ask(
        "Object.defineProperty(document, 'hidden', {get: () => window.isHidden});"
        "window.isHidden = true; document.dispatchEvent(new Event('visibilitychange'))"
    )
    assert shown.ask("timer") == 0
    # One that was on its way when the tab was hidden is the last.
    assert shown.ask("poll().then(() => timer)") == 0
    polls = shown.ask("answers.polls")
    shown.ask("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")
    shown.wait_for(f"timer > 0 && answers.polls > {polls}")


def test_keyboard(shown: Page) -> None:
    shown.press("Tab")
    assert shown.ask("document.activeElement.className") == "skip"
    bands = "#subsystems article:nth-child(2) g"
    shown.ask(f"document.querySelector('{bands}[tabindex=\"0\"]').focus()")
    label = "document.activeElement.getAttribute('aria-label')"
    shown.press("Home")
    first = shown.ask(label)
    assert first.startswith("original, from ")
    assert shown.text("#subsystems article:nth-child(2) .told") == first
    shown.press("ArrowRight")
    assert shown.ask(label).startswith("random, from ")
    stops = shown.ask(f"document.querySelectorAll('{bands}[tabindex=\"0\"]').length")
    assert stops == 1
    shown.ask("poll()")
    assert shown.ask(label).startswith("random, from "), "what is drawn again keeps the focus"
    shown.press("End")
    assert " to now, " in shown.ask(label)
    shown.press("Tab")
    assert shown.ask("document.activeElement.tagName") == "SUMMARY"


def test_screen_reader_finds_landmarks_headings_tables_and_bands(shown: Page) -> None:
    shown.ask("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    nodes = shown.call("Accessibility.getFullAXTree")["nodes"]
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored")
    ]
    for expected in (
        ("banner", ""),
        ("main", ""),
        ("contentinfo", ""),
        ("region", "Subsystems"),
        ("region", "Last decisions"),
        ("heading", "readahead"),
        ("table", "Policies"),
        ("table", "Editions of readahead"),
        ("columnheader", "Edition"),
        ("list", "Last decisions"),
    ):
        assert expected in found
    images = [name for role, name in found if role in {"image", "img"}]
    assert images, found
    assert all(images), "each band and each chart says what it shows"


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_looks(shown: Page, width: int, scheme: str) -> None:
    """Nothing is wider than the window; how it looks is kept for people."""
    shown.be(width, 900, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    shown.ask("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert shown.ask("document.documentElement.scrollWidth") <= width
    ink = shown.ask("getComputedStyle(document.body).color")
    colours = _colours()[scheme == "dark"]
    red, green, blue = (int(colours["text"][n : n + 2], 16) for n in (1, 3, 5))
    assert ink == f"rgb({red}, {green}, {blue})"
    assert shown.ask("getComputedStyle(state).transitionDuration") == "0s"
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    file = ARTEFACTS / f"page-{width}-{scheme}.png"
    shown.screenshot(file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_without_scripts_there_is_a_way_on(page: Page, hour: Hour, tmp_path: Path) -> None:
    with hour.served(tmp_path) as server:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        try:
            page.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
            root = _wait_for_noscript(page)
        finally:
            page.call("Emulation.setScriptExecutionDisabled", value=False)
        assert 'href="metrics"' in root
        assert 'href="api/v1alpha1/openapi.json"' in root


def _wait_for_noscript(page: Page) -> str:
    while True:
        # The document may be replaced between the two.
        with contextlib.suppress(RuntimeError):
            root = page.call("DOM.getDocument")["root"]["nodeId"]
            text = str(page.call("DOM.getOuterHTML", nodeId=root)["outerHTML"])
            if "<noscript>" in text and "</footer>" in text:
                return text


def test_page_on_the_socket_is_the_same(hour: Hour, tmp_path: Path) -> None:
    with hour.served(tmp_path):
        assert (tmp_path / SOCKET).exists()
        status, body, _ = get_local(tmp_path, "/")
        assert (status, body[:15]) == (200, b"<!DOCTYPE html>")
        found = json.loads(get_local(tmp_path, "/api/v1alpha1/timeline")[1])
    assert [each["name"] for each in found["subsystems"]] == ["pipe", "readahead"]
