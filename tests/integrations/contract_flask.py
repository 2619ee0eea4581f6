"""Flask, for the contract of adapters."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from adapter_site import Adapter, Reply, Settings
from flask import Flask

from autocron_web.flask import AutocronFlask

SHOP = """
import json, os
from flask import Flask, current_app
import autocron_web as autocron
from autocron_web.flask import AutocronFlask

app = Flask(__name__)
for word, value in json.loads(os.environ["SHOP_SETTINGS"]).items():
    app.config[f"AUTOCRON_{word.upper()}"] = value
AutocronFlask(app)

@autocron.delay
def context(word):
    url = current_app.url_map.bind("localhost").build("call", {"word": word})
    return [current_app.name, sorted(current_app.extensions), url]

@app.get("/")
def index():
    return "the shop"

@app.get("/call/<word>")
def call(word):
    return {"result": context(word).get(20)}
"""


class FlaskAdapter(Adapter):
    name = "flask"
    needs = "flask"
    files = {"shop.py": SHOP}
    commands = ("flask --app shop routes", "flask --app shop --help")

    def context(self, word: str) -> list[Any]:
        return ["shop", ["autocron"], f"/call/{word}"]

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]

    def spell(self, word: str) -> str:
        return f"AUTOCRON_{word.upper()}"

    def app(self, settings: Settings) -> Flask:
        app = Flask("shop")
        app.config.update({self.spell(word): value for word, value in settings.items()})
        AutocronFlask(app)
        app.add_url_rule("/", "index", lambda: "the shop")
        return app

    def install_again(self, app: Flask) -> None:
        AutocronFlask(app)

    def ask(self, app: Flask, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        answer = app.test_client().open(path, method=method, headers=dict(headers))
        return Reply(answer.status_code, {name.lower(): value for name, value in answer.headers}, answer.data)
