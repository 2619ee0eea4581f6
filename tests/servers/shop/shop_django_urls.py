"""The pages of the shop as a Django project."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path
from shop_jobs import call, index


def show(request: HttpRequest) -> JsonResponse:
    return JsonResponse(index())


def take(request: HttpRequest, task: str, word: str) -> JsonResponse:
    return JsonResponse(call(task, word))


urlpatterns = [path("", show), path("<task>/<word>", take)]
