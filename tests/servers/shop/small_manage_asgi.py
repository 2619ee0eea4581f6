"""A small shop of Django, for ASGI servers that call no factory."""

from __future__ import annotations

from small_manage import asgi

app = asgi()
