"""A small shop of Django, for WSGI servers that call no factory."""

from __future__ import annotations

from small_manage import wsgi

app = wsgi()
