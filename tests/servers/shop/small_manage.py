"""A small shop of Django: its `manage.py`, and what WSGI and ASGI servers import."""

from __future__ import annotations

import os
import sys

from django.core.asgi import get_asgi_application as asgi
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application as wsgi

__all__ = ["asgi", "wsgi"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "small_django")

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
