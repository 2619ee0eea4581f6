"""The app of the matrix: its tasks write into a ledger, its routes call them."""

from __future__ import annotations

import os
import time

from flask import Flask
from shop_release import RELEASE

import autocron_web as autocron
from autocron_web.flask import AutocronFlask

app = Flask(__name__)
app.config["AUTOCRON_WORKERS"] = int(os.environ.get("SHOP_WORKERS", "2"))
AutocronFlask(app)

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


@app.get("/")
def index() -> dict[str, object]:
    return {"pid": os.getpid(), "release": RELEASE}


@app.post("/<task>/<word>")
def call(task: str, word: str) -> dict[str, object]:
    {"tell": tell, "hold": hold}[task](word)
    return index()


if __name__ == "__main__":
    app.run(port=int(os.environ["SHOP_PORT"]), debug="SHOP_DEBUG" in os.environ)
