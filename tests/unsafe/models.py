"""What a check must catch: a tenant's table that nothing isolates, a key that reaches others'."""

from django.db import models

from tenants.models import TenantOwned
from tests.notes.models import Notebook


class Diary(TenantOwned):
    class Meta:
        app_label = "unsafe"


class Bookmark(TenantOwned):
    notebook = models.ForeignKey(Notebook, models.CASCADE)

    class Meta:
        app_label = "unsafe"
