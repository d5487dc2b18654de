# SPDX-License-Identifier: GPL-2.0-or-later
"""Sources of policies: what their definition becomes, and what several policies may not do."""

from __future__ import annotations

from pathlib import Path

from dynamosd.model import Source
from dynamosd.policy.load import check_files
from dynamosd.policy.outside import MAX_ALL_SOURCES
from dynamosd.policy.problems import Severity, has_errors
from dynamosd.policy.schema import MAX_SOURCES
from tests.unit.policy.build import policy_of, text_of

RULE = """\
- name: deep
  edition: batched
  when: source("depth") > 100.0
"""


def source(query: str = "up", more: str = "") -> str:
    return f"sources: [{{name: depth, prometheus: {{query: {query}{more}}}}}]\n"


def lines_of_both(folder: Path, *sources: str) -> list[str]:
    """Return what is wrong with policies that have these sources."""
    files = []
    for number, text in enumerate(sources):
        file = folder / f"{number}.yaml"
        file.write_text(text_of(RULE, text, f"name: p{number}"))
        files.append(file)
    checked = check_files(files, labels=())
    found = [str(each).removeprefix(f"{folder}/") for each in checked.problems]
    return [line.replace(str(folder), "") for line in found if "names-not-checked" not in line]


def test_defaults_and_everything_set() -> None:
    (made,) = policy_of(RULE, source()).sources
    assert made == Source("depth", "http://127.0.0.1:9090", "up", 15.0, 60.0, 2.0)
    more = ", url: 'https://prom.example/x/', every: 1m, staleness: 5m, timeout: 500ms"
    (made,) = policy_of(RULE, source("sum(up)", more)).sources
    assert made == Source("depth", "https://prom.example/x", "sum(up)", 60.0, 300.0, 0.5)


def test_a_policy_with_another_source_is_another() -> None:
    assert policy_of(RULE, source()) != policy_of(RULE, source("sum(up)"))


def test_two_policies_may_have_the_same_source(tmp_path: Path) -> None:
    # It is the same however it is written.
    assert lines_of_both(tmp_path, source(), source("up", ", every: 15s")) == []


def test_two_policies_may_not_have_two_sources_of_one_name(tmp_path: Path) -> None:
    (line,) = lines_of_both(tmp_path, source(), source("down"))
    assert line == (
        '1.yaml:6:20: error: source "depth" is another one in /0.yaml '
        "(sources of one name must be the same in all policies) [conflicting-sources]"
    )


def test_there_are_not_too_many_sources(tmp_path: Path) -> None:
    files = []
    for number in range(1 + MAX_ALL_SOURCES // MAX_SOURCES):
        names = [f"s{number}-{each}" for each in range(MAX_SOURCES)]
        listed = "".join(f"- {{name: {name}, prometheus: {{query: up}}}}\n" for name in names)
        file = tmp_path / f"{number}.yaml"
        rule = RULE.replace("depth", names[0])
        file.write_text(text_of(rule, f"sources:\n{listed}", f"name: p{number}"))
        files.append(file)
    wrong = [each for each in check_files(files).problems if each.severity is Severity.ERROR]
    assert [(each.file, each.line, each.code) for each in wrong] == [
        (str(files[-1]), 7, "too-many-sources")
    ]
    assert not has_errors(check_files(files[:-1]).problems)
