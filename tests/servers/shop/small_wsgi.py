"""A small shop of WSGI alone."""

from __future__ import annotations

import json
from typing import Any

from small import DATABASE, WORKERS, answer

from autocron_web.wsgi import AutocronMiddleware


def pages(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])).encode()]


app = AutocronMiddleware(pages, database=DATABASE, workers=WORKERS)
