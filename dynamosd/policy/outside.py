# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks what policies say of things outside of the kernel: sources, and labels of the host."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from dynamosd.hostsignals import LABEL, SOURCE
from dynamosd.model import Source
from dynamosd.policy.condition import Reference
from dynamosd.policy.definition import Policy
from dynamosd.policy.positions import Document, Path
from dynamosd.policy.problems import Problem, Severity, did_you_mean

MAX_ALL_SOURCES = 64
"""So many sources all policies together may have: the daemon has a thread for each."""

_SOURCES: Path = ("spec", "sources")


def source_names(document: Document) -> list[tuple[Path, str]]:
    """Return the names of a document's sources, each with its place."""
    spec = document.data.get("spec") if isinstance(document.data, dict) else None
    listed = spec.get("sources") if isinstance(spec, dict) else None
    return [
        ((*_SOURCES, index, "name"), each["name"])
        for index, each in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    ]


def fault(
    reference: Reference, sources: Collection[str], labels: Collection[str] | None
) -> tuple[str, str, str] | None:
    """Return message, code and hint if a condition names a source or a label that is not there.

    Args:
        reference: what it names.
        sources: the names of the policy's sources.
        labels: those of the host's labels; None if they are not known.
    """
    name = reference.name
    if reference.kind == SOURCE and name not in sources:
        hint = did_you_mean(name, sources) or _choices(sources) or "sources stand in spec.sources"
        return f'the policy has no source "{name}"', "unknown-source", hint
    if reference.kind == LABEL and labels is not None and name not in labels:
        hint = did_you_mean(name, labels) or _choices(labels)
        return f'the host has no label "{name}"', "unknown-label", hint
    return None


def check_sources(document: Document, used: Collection[str]) -> Iterator[Problem]:
    """Yield what is wrong with a document's sources; ``used`` are those that conditions name."""
    seen: dict[str, int] = {}
    for path, name in source_names(document):
        place = document.place_of(path)
        if name in seen:
            message = f'source "{name}" is already in line {seen[name]}'
            yield document.error(path, message, "duplicate-source")
        elif name not in used:
            message = f'no condition reads source "{name}"'
            warning = Severity.WARNING
            yield Problem(
                document.file, place.line, place.column, warning, message, "unused-source"
            )
        seen.setdefault(name, place.line)


def check_sources_together(
    parsed: Iterable[tuple[Document | None, Policy | None]],
) -> Iterator[Problem]:
    """Yield where policies that are each right have other sources of one name, or too many."""
    found: dict[str, tuple[Source, str]] = {}
    for document, policy in parsed:
        if document is None or policy is None:
            continue
        places = {name: path for path, name in source_names(document)}
        for source in policy.sources:
            first, file = found.setdefault(source.name, (source, document.file))
            path = places[source.name]
            if first != source:
                message = f'source "{source.name}" is another one in {file}'
                hint = "sources of one name must be the same in all policies"
                yield document.error(path, message, "conflicting-sources", hint)
            elif file == document.file and len(found) == MAX_ALL_SOURCES + 1:
                message = f"the policies have more than {MAX_ALL_SOURCES} sources together"
                yield document.error(path, message, "too-many-sources")


def _choices(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"there are {listed}" if listed else ""
