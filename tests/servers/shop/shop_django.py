"""The settings of the shop as a Django project."""

from __future__ import annotations

import os

DEBUG = True
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop_django_urls"
INSTALLED_APPS = ["autocron_web.django"]
AUTOCRON = {"DATABASE": "shop.db", "WORKERS": int(os.environ.get("SHOP_WORKERS", "2"))}
