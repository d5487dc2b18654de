# SPDX-License-Identifier: GPL-2.0-or-later
"""YAML text to plain data that remembers where everything stood.

A strict subset of YAML 1.2: one document, text keys, no anchors, aliases or tags, no key twice, and
only ``true`` and ``false`` are booleans (``no`` and ``on`` are text). PyYAML's composer gives nodes
with marks; its constructor, which follows YAML 1.1 and drops the marks, is not used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import yaml

from dynamosd.policy.problems import Problem, Severity

Path = tuple[str | int, ...]
"""The way to a value: keys and list indexes, e.g. ``("spec", "rules", 0, "when")``."""

MAX_BYTES = 256 * 1024
MAX_DEPTH = 16
MAX_NODES = 20_000

_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULL = re.compile(r"(?:|~|null|Null|NULL)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,3})?\Z"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a file; both start at 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file, and where each key and each value of it begins.

    ``verbatim`` holds, for texts that stand in the file character for character and on one line,
    where their first character is: positions inside such a text can be told exactly.
    """

    file: str
    data: object
    keys: Mapping[Path, Place]
    values: Mapping[Path, Place]
    verbatim: Mapping[Path, Place]

    def place_of(self, path: Path) -> Place:
        """Return where a path's value begins; for one that is missing, where it should be."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part in self.values:
                missing = length < len(path)
                return self.keys.get(part, self.values[part]) if missing else self.values[part]
        return self.values.get((), Place(1, 1))

    def place_of_key(self, path: Path) -> Place:
        """Return where a path's key begins; for a list's item, where the item does."""
        return self.keys.get(path) or self.place_of(path)

    def error(self, path: Path, message: str, code: str, hint: str = "") -> Problem:
        """Return an error at a path's value."""
        return _problem(self.file, self.place_of(path), message, code, hint)

    def error_at_key(self, path: Path, message: str, code: str, hint: str = "") -> Problem:
        """Return an error at a path's key."""
        return _problem(self.file, self.place_of_key(path), message, code, hint)


def read_document(raw: bytes, file: str) -> tuple[Document | None, list[Problem]]:
    """Read one YAML document from a file's bytes, whatever they are.

    Returns the document, or None when there is no use in looking further, and the errors found.
    """
    text, problem = _decode(raw, file)
    if problem is not None:
        return None, [problem]
    loader = _StrictLoader(text)
    try:
        node = loader.get_single_node()
    except _Refused as refused:
        return None, [_problem(file, refused.place, refused.message, refused.code, refused.hint)]
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_problem(file, error)]
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets some escapes and directives through to chr() and int().
        place = _place(loader.get_mark())
        message = "an escape or a directive cannot be read"
        return None, [_problem(file, place, message, "yaml-syntax")]
    if node is None:
        return None, [_problem(file, Place(1, 1), "there is no policy in this file", "empty-file")]
    reader = _NodeReader(file)
    data = reader.read(node, ())
    return Document(file, data, reader.keys, reader.values, reader.verbatim), reader.problems


def _decode(raw: bytes, file: str) -> tuple[str, Problem | None]:
    if len(raw) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024} KiB"
        return "", _problem(file, Place(1, 1), message, "too-large")
    try:
        text = raw.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        place = _end_of(raw[: error.start].decode(errors="replace"))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8 text"
        return "", _problem(file, place, message, "not-utf8")
    found = _UNPRINTABLE.search(text)
    if found is None:
        return text, None
    message = f"character U+{ord(found[0]):04X} cannot be part of a policy"
    return "", _problem(file, _end_of(text[: found.start()]), message, "control-character")


def _end_of(text: str) -> Place:
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _problem(file: str, place: Place, message: str, code: str, hint: str = "") -> Problem:
    return Problem(file, place.line, place.column, Severity.ERROR, message, code, hint)


def _place(mark: _Mark | None) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _syntax_problem(file: str, error: yaml.MarkedYAMLError) -> Problem:
    place = _place(error.problem_mark or error.context_mark)
    message = ", ".join(str(part) for part in (error.context, error.problem) if part)
    hint = "YAML is indented with spaces" if "'\\t'" in message else ""
    if error.context == "expected a single document in the stream":
        message, hint = "a file holds one policy", "make it two files"
        return _problem(file, place, message, "many-documents", hint)
    return _problem(file, place, message or "not YAML", "yaml-syntax", hint)


class _Mark(Protocol):
    """What both of PyYAML's kinds of marks have: a position, starting at 0."""

    line: int
    column: int


class _Refused(Exception):
    """It is YAML, but of a kind that policies do not use."""

    def __init__(self, message: str, code: str, mark: _Mark | None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.place = _place(mark)


class _StrictLoader(yaml.SafeLoader):
    """Composes nodes, but neither aliases nor tags nor deep or huge trees.

    Refusing while composing, node by node, bounds the time and memory that any input can take.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._refuse(event)
        self._depth += 1
        self._nodes += 1
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[arg-type]
        self._depth -= 1
        return node

    def _refuse(self, event: yaml.Event) -> None:
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused("anchors and aliases (& and *) are not accepted", "alias", mark)
        if getattr(event, "tag", None) is not None:
            raise _Refused("tags (!) are not accepted", "tag", mark, "quote the text")
        if self._depth >= MAX_DEPTH:
            raise _Refused(f"nested deeper than {MAX_DEPTH} levels", "too-deep", mark)
        if self._nodes >= MAX_NODES:
            raise _Refused(f"more than {MAX_NODES} values", "too-large", mark)


@dataclass(slots=True)
class _NodeReader:
    """Turns nodes into plain data, noting places and problems on the way."""

    file: str
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    verbatim: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def read(self, node: yaml.Node, path: Path) -> object:
        self.values[path] = _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._read_scalar(node, path)
        raise TypeError(f"the composer made a {type(node).__name__}")

    def _read_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(place, "a key must be a text", "key-not-text")
                continue
            key = key_node.value
            below = (*path, key)
            if key in result:
                first = self.keys[below].line
                self._complain(place, f'key "{key}" is already in line {first}', "duplicate-key")
                continue
            self.keys[below] = place
            result[key] = self.read(value_node, below)
        return result

    def _read_scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        text: str = node.value
        found = _UNPRINTABLE.search(text)
        if found is not None:
            message = f"character U+{ord(found[0]):04X} cannot be part of a policy"
            self._complain(self.values[path], message, "control-character")
            return _UNPRINTABLE.sub("?", text)
        quotes = _quotes(node)
        if quotes is not None:
            start = self.values[path]
            self.verbatim[path] = Place(start.line, start.column + quotes)
        return text if node.style else _resolve(text)

    def _complain(self, place: Place, message: str, code: str) -> None:
        self.problems.append(_problem(self.file, place, message, code))


def _quotes(node: yaml.ScalarNode) -> int | None:
    """Return how many quotes open a scalar that stands verbatim on one line; else None."""
    if node.start_mark.line != node.end_mark.line or node.style in {"|", ">"}:
        return None
    quotes = 1 if node.style else 0
    width = node.end_mark.column - node.start_mark.column
    return quotes if width == len(node.value) + 2 * quotes else None


def _resolve(text: str) -> object:
    """Return what a plain scalar means in YAML 1.2, booleans only as ``true`` and ``false``."""
    if _NULL.match(text):
        return None
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text
