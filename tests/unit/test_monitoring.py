# SPDX-License-Identifier: GPL-2.0-or-later
"""monitoring/ and docs/handbook.md: promtool takes them, and they fit each other."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamosd import cli
from dynamosd.metrics import DEFINITIONS

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"
HANDBOOK = (ROOT / "docs/handbook.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())

PARTS = ("**Meaning.**", "**Check.**", "**Remedy.**")
SCRAPED: dict[str, set[str]] = {
    "up": set(),
    "scrape_duration_seconds": set(),
    "ALERTS": {"alertstate"},
}
"""What Prometheus makes itself, and the labels beside job and instance."""

EVERYWHERE = {"job", "instance", "le"}
SELECTOR = re.compile(r"\b([a-z_:]+[a-z0-9_:]*)\b(?:\{([^}]*)\})?", re.IGNORECASE)


def rules(file: str) -> list[dict[str, Any]]:
    """Give the rules of a file."""
    found: dict[str, Any] = yaml.safe_load((MONITORING / file).read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}
RECORDED = {rule["record"]: rule["expr"] for rule in rules("rules.yaml")}


def panels() -> list[dict[str, Any]]:
    """Give the dashboard's panels that show something."""
    return [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def queries() -> dict[str, str]:
    """Give all queries of the dashboard, by where they are."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    found |= {each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]}
    return found


def expressions() -> dict[str, str]:
    """Give all PromQL there is."""
    return {name: rule["expr"] for name, rule in ALERTS.items()} | RECORDED | queries()


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool, which CI has."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    return subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, cwd=MONITORING
    )


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "rules.yaml", "alerts.yaml"),
        *(("test", "rules", each) for each in sorted((MONITORING / "tests").glob("*.yaml"))),
    ],
    ids=lambda words: Path(words[-1]).name,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = promtool(*words)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------ the alerts


def test_every_alert_says_what_it_is() -> None:
    for name, rule in ALERTS.items():
        assert name.startswith("Dynamos")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"docs/handbook.md#{name.lower()}"


def test_every_alert_is_seen_to_fire_and_not_to() -> None:
    tested = yaml.safe_load((MONITORING / "tests/alerts.yaml").read_text())["tests"]
    fired = set()
    for test in tested:
        quiet, loud = test["promql_expr_test"]
        assert quiet["exp_samples"] == []
        assert loud["exp_samples"][0]["labels"] == f'{{alertname="{test["name"]}"}}'
        fired.add(test["name"])
    assert fired == set(ALERTS)


def test_a_daemon_that_is_well_has_all_that_alerts_look_at() -> None:
    tested = yaml.safe_load((MONITORING / "tests/rules.yaml").read_text())["tests"]
    (well,) = (each for each in tested if "half a day" in each["name"])
    there = {each["series"].partition("{")[0] for each in well["input_series"]}
    asked = {name for rule in ALERTS.values() for name in names(rule["expr"])}
    asked |= {name for each in asked & RECORDED.keys() for name in names(RECORDED[each])}
    # These are there only when something is wrong, or about to end.
    absent = {
        "dynamos_left_out_series",
        "dynamos_edition_quarantine_end_timestamp_seconds",
    }
    assert asked - RECORDED.keys() - there == absent


# ------------------------------------------------------------------------------ names and labels


def names(expression: str) -> set[str]:
    """Give the metrics that an expression asks for."""
    return {found[1] for found in SELECTOR.finditer(expression) if _is_metric(found[1])}


def _is_metric(word: str) -> bool:
    return word.startswith(("dynamos_", "dynamos:")) or word in SCRAPED


def labels_of(metric: str) -> set[str]:
    """Give the labels that a metric has; "" when there is no such metric."""
    known = {each.name: set(each.labels) for each in DEFINITIONS}
    known |= {f"{each.name}_bucket": set(each.labels) for each in DEFINITIONS} | SCRAPED
    if metric in RECORDED:
        return set.union(*(labels_of(each) for each in names(RECORDED[metric])))
    return known[metric]


@pytest.mark.parametrize("name", expressions())
def test_asks_for_metrics_and_labels_that_there_are(name: str) -> None:
    expression = expressions()[name]
    assert names(expression)
    for found in SELECTOR.finditer(expression):
        if _is_metric(found[1]):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[2] or ""))
            assert asked <= labels_of(found[1]) | EVERYWHERE, found[0]


# --------------------------------------------------------------------------------- the dashboard


def test_panels_have_a_place_of_their_own_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for each in DASHBOARD["panels"]:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for each in panels():
        assert each["description"].endswith(".")
        assert each["datasource"]["uid"] == "${datasource}"


def test_every_variable_of_the_dashboard_is_there() -> None:
    there = {each["name"] for each in DASHBOARD["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used == there


def test_switches_are_marked() -> None:
    (switches,) = (e for e in DASHBOARD["annotations"]["list"] if e["name"] == "Switches")
    assert "dynamos_last_switch_timestamp_seconds" in switches["expr"]
    assert switches["useValueForTime"]


# ---------------------------------------------------------------------------------- the handbook


def sections() -> dict[str, str]:
    """Give the handbook's sections about alerts."""
    found = re.split(r"^### (\w+)$", HANDBOOK, flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    headings = re.findall(r"^### (.*)$", HANDBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_section_says_what_it_means_what_to_look_at_and_what_to_do(alert: str) -> None:
    text = sections()[alert]
    places = [text.find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    check = text[places[1] : places[2]]
    assert "```" in check, "no exact command"


def commands(program: str) -> list[str]:
    """Give the handbook's commands, those in its sentences too."""
    blocks = re.findall(r"^```\n(.*?)^```$", HANDBOOK, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```\n.*?^```$", "", HANDBOOK, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]
    return [line for line in lines if line.startswith(f"{program} ")]


@pytest.mark.parametrize("command", sorted(set(commands("dynamosctl"))))
def test_command_of_the_handbook_is_one(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    cli.make_parser().parse_args(words)


def test_kinds_of_records_in_the_handbook_are_documented() -> None:
    table = (ROOT / "docs/operations.md").read_text()
    parser = cli.make_parser()
    words = [shlex.split(each, comments=True)[1:] for each in commands("dynamosctl")]
    parsed = [parser.parse_args(each) for each in words]
    kinds = {kind for each in parsed for kind in getattr(each, "kind", None) or ()}
    assert len(kinds) > 5
    assert {kind for kind in kinds if f"`{kind}`" not in table} == set()


def test_metrics_and_links_in_the_handbook_are_there() -> None:
    known = {each.name for each in DEFINITIONS} | RECORDED.keys()
    assert set(re.findall(r"`(dynamos[_:][a-z0-9_:]+)`", HANDBOOK)) <= known
    anchors = {heading.lower() for heading in sections()}
    assert set(re.findall(r"\]\(#(\w+)\)", HANDBOOK)) <= anchors
    for file in re.findall(r"\]\((\w+\.md)\)", HANDBOOK):
        assert (ROOT / "docs" / file).exists()
