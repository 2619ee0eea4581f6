"""The pages of the shop, and those of its background tasks."""

from django.urls import include, path
from orders.views import shop

urlpatterns = [
    path("", shop),
    path("autocron/", include("autocron_web.django.urls")),
]
