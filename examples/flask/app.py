"""Flask: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import sys
import time

from flask import Flask, redirect

import autocron_web as autocron
from autocron_web.flask import AutocronFlask

app = Flask("flask_example")
AutocronFlask(app, status=True)


@autocron.delay
def bake(cake: str) -> str:
    time.sleep(2)
    return f"a {cake} cake"


@app.get("/")
def index() -> str:
    rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in autocron.get_results(10))
    return f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>"


@app.post("/bake")
def order():
    bake("chocolate")
    return redirect("/")


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
