"""The tasks of the matrix for other frameworks than Flask, whose shop is a program in one file."""

from __future__ import annotations

import os
import time

from shop_release import RELEASE

import autocron_web as autocron

LEDGER = os.environ["SHOP_LEDGER"]


def note(*words: object) -> None:
    """One line in one write, so that lines of several processes never mix."""
    fd = os.open(LEDGER, os.O_WRONLY | os.O_APPEND)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


@autocron.delay
def tell(word: str) -> None:
    note("tell", word, RELEASE, os.getpid())


@autocron.delay
def hold(word: str) -> None:
    """Run until the test makes the file `<ledger>.<word>`."""
    note("begin", word, RELEASE, os.getpid())
    while not os.path.exists(f"{LEDGER}.{word}"):
        time.sleep(0.01)
    note("end", word, RELEASE, os.getpid())


@autocron.every(seconds=1)
def tick() -> None:
    note("tick", RELEASE, os.getpid())


def index() -> dict[str, object]:
    """The answer to every request."""
    return {"pid": os.getpid(), "release": RELEASE}


def call(task: str, word: str) -> dict[str, object]:
    {"tell": tell, "hold": hold}[task](word)
    return index()
