"""Whether customers want to be written to: each change of it has an entry in the log.

Entries are written in the transaction that makes the change. What a file or a sync changes is
logged by its own statement (customers.upserting).
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from config.problems import FieldError, InvalidRequest
from customers.models import Consent, ConsentChange, Customer, Suppression
from tenants.serializers import REASON_LEAST


def record(*, customer_id: UUID, before: str, after: str, source: str, reason: str = "") -> None:
    """Log what is about to change, in the caller's transaction; nothing where nothing does.

    Raises InvalidRequest when a withdrawal would be undone and nobody says why.
    """
    if before == after:
        return
    if before == Consent.WITHDRAWN and len(reason) < REASON_LEAST:
        message = "The customer withdrew their consent: say what they said since."
        raise InvalidRequest(errors=[FieldError("/consent_reason", "required", message)])
    ConsentChange.objects.create(
        customer_id=customer_id, before=before, after=after, source=source, reason=reason
    )


def withdrawn_since(at: datetime, *, phone: str, source: str) -> bool:
    """Whether `withdraw` was told so by this source at that time or later, whatever came then."""
    customers = Customer.objects.filter(phone=phone).values("id")
    told = ConsentChange.objects.filter(customer_id__in=customers, after=Consent.WITHDRAWN)
    return told.filter(source=source, at__gte=at).exists()


def withdraw(*, phone: str, source: str, reason: str = "") -> int:
    """Whoever has this number said to a provider that they want no more; how many changed.

    `phone` is E.164, `reason` what they said, if that is known. The number is suppressed too:
    whoever is brought with it later on is not written to. Told again, it changes nothing.
    """
    with transaction.atomic():
        rows = Customer.objects.filter(phone=phone).exclude(consent=Consent.WITHDRAWN)
        found = list(rows.order_by("id").select_for_update().values_list("id", "consent"))
        changed = Customer.objects.filter(pk__in=[id_ for id_, _ in found])
        changed.update(consent=Consent.WITHDRAWN, updated_at=Now())
        ConsentChange.objects.bulk_create(
            ConsentChange(
                customer_id=id_,
                before=before,
                after=Consent.WITHDRAWN,
                source=source,
                reason=reason,
            )
            for id_, before in found
        )
        Suppression.objects.bulk_create(
            [Suppression(phone=phone, reason=Suppression.Reason.OPTED_OUT, actor=source)],
            ignore_conflicts=True,
        )
    return len(found)
