"""A small shop of Flask."""

from __future__ import annotations

from flask import Flask, request
from small import DATABASE, WORKERS, answer

from autocron_web.flask import AutocronFlask

app = Flask(__name__)
AutocronFlask(app, database=DATABASE, workers=WORKERS)


@app.route("/", methods=["GET"], defaults={"path": ""})
@app.route("/<path:path>", methods=["GET", "POST"])
def page(path: str) -> dict[str, object]:
    return answer(request.method, path)
