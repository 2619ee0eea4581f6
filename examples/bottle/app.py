"""Bottle: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import sys
import time

import bottle

import autocron_web as autocron
from autocron_web.bottle import AutocronPlugin

app = bottle.Bottle()
app.install(AutocronPlugin(database="bottle_example.db", status=True))


@autocron.delay
def bake(cake: str) -> str:
    time.sleep(2)
    return f"a {cake} cake"


@app.get("/")
def index() -> str:
    rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in autocron.get_results(10))
    return f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>"


@app.post("/bake")
def order() -> None:
    bake("chocolate")
    bottle.redirect("/")


app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
