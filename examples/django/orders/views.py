"""The one page of the shop."""

from django.db import transaction
from django.shortcuts import redirect, render

from .models import Order
from .tasks import confirm


@transaction.atomic
def shop(request):
    if request.method == "POST":
        order = Order.objects.create(address=request.POST["address"])
        confirm(order.pk)
        return redirect("/")
    return render(request, "shop.html", {"orders": Order.objects.order_by("-pk")[:20]})
