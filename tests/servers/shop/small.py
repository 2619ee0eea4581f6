"""The task of the small shops, one for each framework, and what all of them answer."""

from __future__ import annotations

import os

import autocron_web as autocron

DATABASE, WORKERS = "shop.db", 2
PORT = int(os.environ["SHOP_PORT"])


@autocron.delay
def tell(word: str) -> None:
    fd = os.open(os.environ["SHOP_LEDGER"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, f"tell {word} {os.getpid()}\n".encode())  # in one write, so that lines never mix
    os.close(fd)


def answer(method: str, path: str) -> dict[str, object]:
    """`POST /tell/<word>` calls the task."""
    if method == "POST":
        tell(path.rpartition("/")[2])
    return {"pid": os.getpid()}
