# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.config: settings with defaults, and nothing silently not in force."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamosd import config
from dynamosd.config import ConfigErrors, load
from dynamosd.errors import InvalidInput


def settings(folder: Path, text: str) -> config.Config:
    """Load settings from a text."""
    (folder / "dynamosd.yaml").write_text(text)
    return load(folder)


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
def test_defaults(tmp_path: Path, text: str | None) -> None:
    found = load(tmp_path) if text is None else settings(tmp_path, text)
    assert found.metrics_address == ("127.0.0.1", 9947)
    assert found.journal == Path("/var/lib/dynamosd/journal.jsonl")
    assert found.runtime_dir == Path("/run/dynamosd")
    assert found.window_seconds == 2.0
    assert (found.boot_guard_seconds, found.boot_guard_quarantine_seconds) == (300.0, 3600.0)


def test_everything_set(tmp_path: Path) -> None:
    text = "metrics: {address: '[::1]:99'}\njournal: {path: /j}\nruntimeDir: /r\nwindow: 500ms\n"
    found = settings(tmp_path, text)
    assert found.metrics_address == ("::1", 99)
    assert (found.journal, found.runtime_dir) == (Path("/j"), Path("/r"))
    assert found.window_seconds == 0.5


def test_boot_guard_is_set_or_off_and_its_file_beside_the_journal(tmp_path: Path) -> None:
    found = settings(tmp_path, "bootGuard: {within: 0s, quarantine: 2d}\njournal: {path: /v/j}\n")
    assert (found.boot_guard_seconds, found.boot_guard_quarantine_seconds) == (0.0, 172800.0)
    assert found.last_switches == Path("/v/last-switches.json")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("windw: 2s\n", '1:1: error: unknown key "windw" (did you mean "window"?)'),
        (
            "window: 2s\nmetrics:\n  adress: x\n",
            '3:3: error: unknown key "adress" (did you mean "address"?)',
        ),
        ("runtime_dir: /x\n", '1:1: error: unknown key "runtime_dir"'),
        ("metrics: {address: nowhere}\n", "1:20: error: 'nowhere' is not an address"),
        ("window: 2\n", "1:9: error: input should be a valid string"),
        ("window: 1ms\n", "1:9: error: a window is between 200ms and 1h"),
        ("window: soon\n", '1:9: error: "soon" is not a duration'),
        ("journal: {path: ''}\n", "1:17: error:"),
        ("labels: {Role: db}\n", "1:10: error: a label has up to 63 of a-z"),
        ("labels: {role: db, hostname: me}\n", '1:20: error: every host has a label "hostname"'),
        ("labels: {role: 5}\n", "1:16: error: input should be a valid string"),
        ("labels: {role: ''}\n", "1:16: error: a label's text has 1 to 253 letters"),
        ('labels: {role: "a\\tb"}\n', "1:16: error: a label's text has 1 to 253 letters"),
        ("labels: [db]\n", "1:9: error: input should be a valid dictionary"),
        (
            "labels: {" + ", ".join(f"l{number}: x" for number in range(65)) + "}\n",
            "1:9: error: dictionary should have at most 64 items",
        ),
        ("bootGuard: {within: 8d}\n", "1:21: error: at most 7d"),
        ("bootGuard: {with: 1m}\n", '1:13: error: unknown key "with" (did you mean "within"?)'),
        ("- a list\n", "1:1: error:"),
        ("window: [\n", "error:"),
        ("window: 2s\nwindow: 3s\n", '2:1: error: key "window" is already in line 1'),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        settings(tmp_path, text)
    assert f"{tmp_path}/dynamosd.yaml:" in caught.value.message
    assert problem in caught.value.message


def test_labels_are_the_hosts_own_and_those_given(tmp_path: Path) -> None:
    uname = os.uname()
    own = {"hostname": uname.nodename, "kernel": uname.release}
    assert load(tmp_path).labels == own
    assert settings(tmp_path, "labels: {role: db, rack_1: 'a b'}\n").labels == {
        **own,
        "role": "db",
        "rack_1": "a b",
    }


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "dynamosd.yaml").write_bytes(b"window: \xff\n")
    with pytest.raises(ConfigErrors):
        load(tmp_path)


def test_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a folder"):
        load(tmp_path / "none")
    with pytest.raises(InvalidInput, match="cannot read"):
        config.policy_files(tmp_path / "none")


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dynamosd.yaml").mkdir()
    with pytest.raises(InvalidInput, match="cannot read"):
        load(tmp_path)


def test_policies_beside_the_settings(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "dynamosd.yaml", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).write_text("")
    assert [path.name for path in config.policy_files(tmp_path)] == ["a.yml", "b.yaml"]


def test_policies_in_their_own_folder(tmp_path: Path) -> None:
    (tmp_path / "policies.d").mkdir()
    (tmp_path / "policies.d" / "in.yaml").write_text("")
    (tmp_path / "out.yaml").write_text("")
    assert [path.name for path in load(tmp_path).policies] == ["in.yaml"]


def fill(folder: Path, *names: str) -> Path:
    """Make a folder with files in it that are empty."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text("")
    return folder


def test_the_vendors_policies_count_unless_there_is_one_of_that_name(tmp_path: Path) -> None:
    vendor = fill(tmp_path / "vendor", "a.yaml", "b.yaml", "c.yaml")
    own = fill(tmp_path / "policies.d", "b.yaml", "d.yaml")
    (own / "c.yaml").symlink_to("/dev/null")
    found = settings(tmp_path, f"vendorPolicies: {vendor}\n").policies
    assert found == (vendor / "a.yaml", own / "b.yaml", own / "d.yaml")


def test_without_a_vendors_folder_there_are_only_ones_own(tmp_path: Path) -> None:
    own = fill(tmp_path / "policies.d", "b.yaml")
    found = settings(tmp_path, f"vendorPolicies: {tmp_path / 'nowhere'}\n").policies
    assert found == (own / "b.yaml",)


def test_a_plain_folder_of_policies_has_no_others(tmp_path: Path) -> None:
    vendor = fill(tmp_path / "vendor", "a.yaml")
    (tmp_path / "b.yaml").write_text("")
    found = settings(tmp_path, f"vendorPolicies: {vendor}\n").policies
    assert found == (tmp_path / "b.yaml",)
