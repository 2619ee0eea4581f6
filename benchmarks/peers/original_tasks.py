"""The task of the original autocron, in a module that its workers can import."""

from __future__ import annotations

import importlib
from typing import Any

import stamps

autocron: Any = importlib.import_module("autocron")


@autocron.delay  # type: ignore[untyped-decorator]  # autocron 1.2.2 has no types
def mark(index: int) -> None:
    stamps.note(index)
