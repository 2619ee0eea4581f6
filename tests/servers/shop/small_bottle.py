"""A small shop of Bottle, served by what comes with it; with its reloader if `reload` is said."""

from __future__ import annotations

import sys

import bottle
from small import DATABASE, PORT, WORKERS, answer

from autocron_web.bottle import AutocronPlugin

app = bottle.Bottle()
app.install(AutocronPlugin(database=DATABASE, workers=WORKERS))


def page(path: str) -> dict[str, object]:
    return answer(bottle.request.method, path)


app.get("/<path:re:.*>", callback=page)
app.post("/<path:re:.*>", callback=page)

if __name__ == "__main__":
    app.run(port=PORT, quiet=True, reloader="reload" in sys.argv)
