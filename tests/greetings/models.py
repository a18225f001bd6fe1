from typing import ClassVar

from django.db import models

from tenants.context import current_tenant_id


class Greeting(models.Model):
    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True)
    tenant_id = models.BigIntegerField(default=current_tenant_id, editable=False)
    text = models.TextField()

    def __str__(self) -> str:
        return self.text
