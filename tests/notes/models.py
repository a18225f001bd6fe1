"""Two tenant tables that know of nothing but isolation: the ground of its proofs."""

from django.db import models

from config.ids import uuid7
from tenants.models import TenantOwned


class Notebook(TenantOwned):
    id = models.UUIDField(primary_key=True, default=uuid7)
    title = models.CharField(max_length=100)

    class Meta:
        app_label = "notes"
        constraints = [models.UniqueConstraint("tenant", "title", name="notebook_title")]


class Note(TenantOwned):
    id = models.UUIDField(primary_key=True, default=uuid7)
    notebook = models.ForeignKey(Notebook, models.CASCADE, db_constraint=False)
    text = models.TextField()

    class Meta:
        app_label = "notes"
