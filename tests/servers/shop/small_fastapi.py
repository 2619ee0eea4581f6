"""A small shop of FastAPI."""

from __future__ import annotations

from fastapi import FastAPI, Request
from small import DATABASE, WORKERS, answer

from autocron_web.starlette import AutocronMiddleware

app = FastAPI()
app.add_middleware(AutocronMiddleware, database=DATABASE, workers=WORKERS)


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def page(request: Request) -> dict[str, object]:
    return answer(request.method, request.url.path)
