"""The only writer of customers. Each runs in the context of one tenant, wherever it lives."""

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from customers.errors import CustomerNotFound, ExternalIdTaken
from customers.models import Customer
from tenants import audit
from tenants.context import require_tenant


def create_customer(*, fields: dict[str, Any]) -> Customer:
    """Add a customer.

    Raises ExternalIdTaken.
    """
    try:
        with transaction.atomic():
            return Customer.objects.create(**fields)
    except IntegrityError as error:
        _explain(error)
        raise


def change_customer(*, customer_id: UUID, fields: dict[str, Any]) -> Customer:
    """Change the named fields and no others.

    Raises CustomerNotFound, ExternalIdTaken.
    """
    try:
        with transaction.atomic():
            rows = Customer.objects.filter(pk=customer_id)
            if not rows.update(**fields, updated_at=timezone.now()):
                raise CustomerNotFound
            return rows.get()
    except IntegrityError as error:
        _explain(error)
        raise


def delete_customer(*, customer_id: UUID, actor: str) -> None:
    """Delete a customer for good; the audit trail keeps that it was, and who did it.

    Raises CustomerNotFound.
    """
    with transaction.atomic():
        deleted, _ = Customer.objects.filter(pk=customer_id).delete()
        if not deleted:
            raise CustomerNotFound
        # Ids only: the trail outlives the customer.
        audit.record(
            actor=actor,
            action="customer.deleted",
            target=f"customer:{customer_id}",
            tenant_id=require_tenant().id,
        )


def _explain(error: IntegrityError) -> None:
    """Raises ExternalIdTaken where that is what the database refused."""
    if "customer_external_id" in str(error):
        raise ExternalIdTaken from None
