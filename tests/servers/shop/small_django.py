"""A small shop of Django: its settings and its URLs in one module."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from small import DATABASE, WORKERS, answer

DEBUG = True
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["autocron_web.django"]
AUTOCRON = {"DATABASE": DATABASE, "WORKERS": WORKERS}


def page(request: HttpRequest) -> JsonResponse:
    return JsonResponse(answer(request.method or "", request.path))


urlpatterns = [re_path("", page)]
