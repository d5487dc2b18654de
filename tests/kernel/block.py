# SPDX-License-Identifier: GPL-2.0-or-later
"""What lives for the length of a `with` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Block(ABC):
    """Such a thing: it is there when it has been made, and `end` takes it away."""

    @abstractmethod
    def end(self) -> None:
        """Take it away, from whatever state it is in."""

    def __enter__(self) -> Self:
        """Begin the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, whatever has happened in the block."""
        self.end()
