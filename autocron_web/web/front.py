"""The routes of the status: which paths there are, who may see what, and the headers of every answer.

Adapters only carry it: they ask whether a path is one of these, say whether the framework's own
authorisation lets the caller in, and hand on the answer.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from typing import NamedTuple

from ..engine import engine
from ..settings import Settings

#: Every answer is of this moment and for this caller, and never anything but what it says it is.
HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
METHODS = ("GET", "HEAD")


class Answer(NamedTuple):
    """An HTTP answer. Its body is empty for HEAD, of which the length is that for GET."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Page = Callable[[bool], tuple[int, str, bytes]]


def _status(allowed: bool) -> tuple[int, str, bytes]:
    link = engine._link
    linked = link is not None and link.serving and link.connected
    document = {"status": "pass" if linked else "fail", **({"linked": linked} if allowed else {})}
    return 200 if linked else 503, "application/health+json", json.dumps(document).encode()


def _ready(allowed: bool) -> tuple[int, str, bytes]:
    return 200, "application/health+json", b'{"status": "pass"}'


def _metrics(allowed: bool) -> tuple[int, str, bytes]:
    return 200 if allowed else 401, "text/plain; version=0.0.4; charset=utf-8", b""


PAGES: dict[str, Page] = {"status": _status, "ready": _ready, "metrics": _metrics}


class Front:
    """The paths below `url_prefix`, for an adapter to mount; none at all unless `status` is on.

    front = Front(settings)
    if path in front.paths:
        answer = front.answer(method, path, authorization_header, allowed)
    """

    def __init__(self, settings: Settings) -> None:
        pages = PAGES if settings.status else {}
        self.paths = {f"{settings.url_prefix}/{page}": page for page in pages}
        self._token = settings.token

    def answer(self, method: str, path: str, authorization: str | None, allowed: bool = False) -> Answer:
        """The answer for one of `paths`.

        authorization: the header of that name. allowed: what the framework's own authorisation says of
            the caller; without it, the bearer token decides.
        """
        if method not in METHODS:
            return _answer(405, "text/plain; charset=utf-8", b"", ("Allow", ", ".join(METHODS)))
        status, kind, body = PAGES[self.paths[path]](allowed or self._has_token(authorization))
        extra = [("WWW-Authenticate", "Bearer")] if status == 401 else []
        answer = _answer(status, kind, body, *extra)
        return answer._replace(body=b"") if method == "HEAD" else answer

    def _has_token(self, authorization: str | None) -> bool:
        """Whether the header shows the token. It is compared in constant time, as bytes: `compare_digest`
        raises TypeError for a text that is not ASCII."""
        if self._token is None or authorization is None:
            return False
        scheme, _, shown = authorization.partition(" ")
        same = hmac.compare_digest(shown.strip().encode(), self._token.encode())
        return same and scheme.lower() == "bearer"


def _answer(status: int, kind: str, body: bytes, *extra: tuple[str, str]) -> Answer:
    fixed = (("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS)
    return Answer(status, [*fixed, *extra], body)
