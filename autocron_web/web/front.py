"""The routes of the status: which paths there are, who may see what, and the headers of every answer.

Adapters only carry it: they ask whether a path is one of these, say whether the framework's own
authorisation lets the caller in, and hand on the answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..engine import engine
from ..settings import Settings

if TYPE_CHECKING:
    from .status import Level

#: Every answer is of this moment and for this caller, and never anything but what it says it is.
HEADERS = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
METHODS = ("GET", "HEAD")


class Answer(NamedTuple):
    """An HTTP answer. Its body is empty for HEAD, of which the length is that for GET."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Page = Callable[["Level"], tuple[int, str, bytes]]


# A page is imported when it is first asked for: most apps have none.


def _status(level: Level) -> tuple[int, str, bytes]:
    from .status import answer

    return answer(engine, level)


def _ready(level: Level) -> tuple[int, str, bytes]:
    from .status import ready_answer

    return ready_answer(engine)


def _metrics(level: Level) -> tuple[int, str, bytes]:
    if level == "none":
        return 401, "text/plain; charset=utf-8", b"The metrics need the right to the status, or the token.\n"
    from .status import metrics_answer

    return metrics_answer(engine)


#: What is answered below the prefix, by its name.
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

    def answer(self, method: str, path: str, authorization: str | None, allowed: object = False) -> Answer:
        """The answer for one of `paths`, within a second: an event loop calls it in a thread.

        authorization: the header of that name. allowed: what the framework's own authorisation says of
            the visitor: true, "detail" for one who may also see arguments, output and tracebacks, or
            false: then the bearer token decides.
        """
        if method not in METHODS:
            return _answer(405, "text/plain; charset=utf-8", b"", ("Allow", ", ".join(METHODS)))
        level: Level = "none"
        if allowed or self._has_token(authorization):
            level = "detail" if allowed == "detail" else "full"
        code, kind, body = PAGES[self.paths[path]](level)
        answer = _answer(code, kind, body, *([("WWW-Authenticate", "Bearer")] if code == 401 else []))
        return answer._replace(body=b"") if method == "HEAD" else answer

    def _has_token(self, authorization: str | None) -> bool:
        """Whether the header shows the token. It is compared in constant time, as bytes: `compare_digest`
        raises TypeError for a text that is not ASCII."""
        if self._token is None or authorization is None:
            return False
        scheme, _, shown = authorization.partition(" ")
        same = hmac.compare_digest(
            shown.strip().encode(errors="replace"), self._token.encode(errors="replace")
        )
        return same and scheme.lower() == "bearer"


def _answer(status: int, kind: str, body: bytes, *extra: tuple[str, str]) -> Answer:
    fixed = (("Content-Type", kind), ("Content-Length", str(len(body))), *HEADERS)
    return Answer(status, [*fixed, *extra], body)
