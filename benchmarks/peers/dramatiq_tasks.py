"""The actor of Dramatiq."""

from __future__ import annotations

import importlib
import os
from typing import Any

import stamps

dramatiq: Any = importlib.import_module("dramatiq")
_broker: Any = importlib.import_module("dramatiq.brokers.redis").RedisBroker(
    url=f"unix://{os.environ['BENCH_REDIS']}"
)
dramatiq.set_broker(_broker)


@dramatiq.actor  # type: ignore[untyped-decorator]  # imported by name: mypy need not have it
def mark(index: int) -> None:
    stamps.note(index)


def call(index: int) -> None:
    mark.send(index)


def left(redis: Any) -> int:
    return int(redis.hlen("dramatiq:default.msgs"))  # those that wait and those that run
