"""A small shop of Django: its settings and its URLs in one module."""

from __future__ import annotations

import os

from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from small import DATABASE, WORKERS, answer

DEBUG = True
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
ASGI_APPLICATION = "small_manage_asgi.app"
INSTALLED_APPS = ["daphne"] * ("SHOP_DAPHNE" in os.environ) + ["autocron_web.django"]
AUTOCRON = {"DATABASE": DATABASE, "WORKERS": WORKERS}


def page(request: HttpRequest) -> JsonResponse:
    return JsonResponse(answer(request.method or "", request.path))


urlpatterns = [re_path("", page)]
