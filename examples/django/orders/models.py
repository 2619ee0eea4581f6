"""What the shop knows."""

from django.db import models


class Order(models.Model):
    address = models.EmailField()
    ordered = models.DateTimeField(auto_now_add=True)
    confirmed = models.DateTimeField(null=True)
