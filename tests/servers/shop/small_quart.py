"""A small shop of Quart."""

from __future__ import annotations

from quart import Quart, request
from small import DATABASE, WORKERS, answer

from autocron_web.asgi import AutocronMiddleware

app = Quart(__name__)
app.asgi_app = AutocronMiddleware(app.asgi_app, database=DATABASE, workers=WORKERS)  # type: ignore[method-assign]


@app.route("/", methods=["GET"], defaults={"path": ""})
@app.route("/<path:path>", methods=["GET", "POST"])
async def page(path: str) -> dict[str, object]:
    return answer(request.method, path)
