# SPDX-License-Identifier: GPL-2.0-or-later
"""A private apt: finds and downloads packages without touching the machine's own state.

The mirror and the signing key are whatever the machine already uses for its release, read
from its sources in either format. Lists and archives stay in the cache folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from tests.vm.common import CACHE, EXIT_UNSUPPORTED, HarnessError, run

RELEASE = "bookworm"
_SOURCES = Path("/etc/apt")
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)")


@dataclass(frozen=True)
class Source:
    """One place that packages come from."""

    uri: str
    suite: str
    # The text of a Signed-By field, which may be a path or a whole key block.
    signed_by: str = ""

    def stanza(self) -> str:
        """Write it as a deb822 stanza."""
        lines = [
            "Types: deb",
            f"URIs: {self.uri}",
            f"Suites: {self.suite}",
            "Components: main",
            "Architectures: amd64",
        ]
        if self.signed_by:
            lines.append(f"Signed-By: {self.signed_by}")
        return "\n".join(lines) + "\n"


def parse_one_line(text: str) -> list[Source]:
    """Read the `deb [options] uri suite components` format."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match:
            options = dict(
                word.split("=", 1) for word in (match["options"] or "").split() if "=" in word
            )
            found.append(Source(match["uri"], match["suite"], options.get("signed-by", "")))
    return found


def _fields(stanza: str) -> dict[str, str]:
    """Split a deb822 stanza into fields; continuation lines stay with their field."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[name] = f"{fields.get(name, '')}\n{line}"
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def parse_deb822(text: str) -> list[Source]:
    """Read the `Types: URIs: Suites:` format."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
        if not enabled or "deb" not in fields.get("types", "").split():
            continue
        found += [
            Source(uri, suite, fields.get("signed-by", ""))
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return found


def machine_sources(root: Path = _SOURCES) -> list[Source]:
    """Everything that the machine installs this release from."""
    found: list[Source] = []
    for path in [root / "sources.list", *sorted((root / "sources.list.d").glob("*.list"))]:
        if path.is_file():
            found += parse_one_line(path.read_text())
    for path in sorted((root / "sources.list.d").glob("*.sources")):
        found += parse_deb822(path.read_text())
    ours = [s for s in found if s.suite.removesuffix("/updates").split("-")[0] == RELEASE]
    if not any(source.suite == RELEASE for source in ours):
        raise HarnessError(
            f"no apt source for Debian {RELEASE} under {root}: the kernels come from there",
            EXIT_UNSUPPORTED,
        )
    return ours


def backports(sources: list[Source]) -> list[Source]:
    """Name the backports suite, on the mirror that serves the release itself."""
    main = next(source for source in sources if source.suite == RELEASE)
    return [replace(main, suite=f"{RELEASE}-backports")]


class PrivateApt:
    """Runs apt against one list of sources, with all state under the cache folder."""

    def __init__(self, name: str, sources: list[Source]) -> None:
        """Write the private configuration."""
        self._home = CACHE / "apt" / name
        for folder in ("sources", "lists/partial", "archives/partial"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        text = "\n".join(source.stanza() for source in sources)
        (self._home / "sources" / "kernel.sources").write_text(text)

    def _options(self) -> list[str]:
        settings = {
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": self._home / "sources",
            "Dir::State::Lists": self._home / "lists",
            "Dir::Cache": self._home,
            # The cache may be in a folder that apt's own user cannot enter.
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Fetch the package lists."""
        run(["apt-get", *self._options(), "-qq", "update"], what="package lists")

    def depends(self, package: str) -> list[str]:
        """Name the packages that the newest version of a package depends on."""
        text = run(["apt-cache", *self._options(), "show", "--no-all-versions", package])
        field = next((row for row in text.splitlines() if row.startswith("Depends:")), "")
        return re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]+)", field.removeprefix("Depends:"))

    def download(self, packages: list[str], into: Path) -> list[Path]:
        """Fetch packages as files; they are not installed."""
        into.mkdir(parents=True, exist_ok=True)
        run(
            ["apt-get", *self._options(), "-qq", "download", *packages],
            what="download",
            cwd=into,
        )
        return sorted(into.glob("*.deb"))
