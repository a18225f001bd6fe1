"""Guests who are numbered, point at one another, and have what only one of them may have."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Upper

from tenants.context import current_tenant_id


class Guest(models.Model):
    tenant_isolated: ClassVar[bool] = True

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    name = models.TextField()
    shouted = models.GeneratedField(
        expression=Upper("name"), output_field=models.TextField(), db_persist=True
    )
    chair = models.IntegerField()
    brought_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, db_constraint=False, db_index=False
    )

    class Meta:
        constraints = [models.UniqueConstraint("tenant_id", "chair", name="guest_chair")]

    def __str__(self) -> str:
        return self.name
