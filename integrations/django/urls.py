"""The pages of the status, wherever the project includes them:

    path("autocron/", include("autocron_web.django.urls")),

`status` is for monitoring, `ready` for load balancers, `metrics` for Prometheus. Strangers are told a word;
members of the staff, and who sends `AUTOCRON["TOKEN"]`, all but arguments and tracebacks; superusers all.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from ..web.front import PAGES, Front
from . import config

app_name = "autocron"


@transaction.non_atomic_requests  # it must answer also when the database is gone
@login_not_required
@csrf_exempt  # it is only read; other methods are answered with 405
def show(request: HttpRequest, page: str) -> HttpResponse:
    """One of the pages; 404 if `AUTOCRON["STATUS"]` is False."""
    words = config.read().settings
    if not words.status:
        raise Http404("AUTOCRON['STATUS'] is False")
    method, shown = request.method or "GET", request.headers.get("Authorization")
    answer = Front(words).answer(method, f"{words.url_prefix}/{page}", shown, _right(request))
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


def _right(request: HttpRequest) -> object:
    """That of a member of the staff, and the further one of a superuser."""
    user = getattr(request, "user", None)  # there is none without django.contrib.auth
    try:
        if not (user and user.is_active and user.is_staff):
            return False
        return "detail" if user.is_superuser else True
    except DatabaseError:
        return False  # the status is asked for above all when something is broken


urlpatterns = [path(page, show, {"page": page}, name=page) for page in PAGES]
