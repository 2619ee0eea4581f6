"""What the shop does in the background. Django's apps are asked for their `tasks.py` at the start."""

import time

from django.utils import timezone

import autocron_web as autocron

from .models import Order


@autocron.delay(retries=3)
def confirm(order_id):
    """Called in the view's transaction, run after its commit: the order is there."""
    order = Order.objects.get(pk=order_id)
    time.sleep(1)  # a mail server takes its time
    print(f"a mail to {order.address}", flush=True)
    order.confirmed = timezone.now()
    order.save()


@autocron.every(seconds=60)
def count():
    print(f"{Order.objects.count()} orders so far", flush=True)
