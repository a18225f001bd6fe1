"""The only writer of customers. Each runs in the context of one tenant, wherever it lives."""

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from customers import consent
from customers.errors import CustomerNotFound, ExternalIdTaken
from customers.models import Consent, Customer
from tenants import audit
from tenants.context import require_tenant


def create_customer(*, fields: dict[str, Any], actor: str) -> Customer:
    """Add a customer.

    Raises ExternalIdTaken.
    """
    try:
        with transaction.atomic():
            made = Customer.objects.create(**fields)
            consent.record(
                customer_id=made.pk, before=Consent.UNKNOWN, after=made.consent, source=actor
            )
            return made
    except IntegrityError as error:
        _explain(error)
        raise


def change_customer(
    *, customer_id: UUID, fields: dict[str, Any], actor: str, reason: str = ""
) -> Customer:
    """Change the named fields and no others; `reason` is why a withdrawn consent is given again.

    Raises CustomerNotFound, ExternalIdTaken; InvalidRequest when that reason is missing.
    """
    try:
        with transaction.atomic():
            rows = Customer.objects.filter(pk=customer_id)
            found = rows.select_for_update().first()
            if found is None:
                raise CustomerNotFound
            consent.record(
                customer_id=customer_id,
                before=found.consent,
                after=fields.get("consent", found.consent),
                source=actor,
                reason=reason,
            )
            rows.update(**fields, updated_at=timezone.now())
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
