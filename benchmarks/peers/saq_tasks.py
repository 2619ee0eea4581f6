"""The function of SAQ, its settings, and the event loop on which the benchmark calls it."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any

import stamps

_redis: Any = importlib.import_module("redis.asyncio").Redis(unix_socket_path=os.environ["BENCH_REDIS"])
_queue: Any = importlib.import_module("saq.queue.redis").RedisQueue(_redis)
_loop = asyncio.new_event_loop()


async def mark(context: Any, *, index: int) -> None:
    stamps.note(index)


settings = {"queue": _queue, "functions": [mark]}


def call(index: int) -> None:
    _loop.run_until_complete(_queue.enqueue("mark", index=index, ttl=-1))


def left(redis: Any) -> int:
    return int(_loop.run_until_complete(_queue.count("incomplete")))
