"""Where each number leads: the lists and pages of the console, filtered."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Model
from django.urls import reverse

from jobs.models import DeadLetter, Drainer, Lane
from jobs.registry import queues
from tenants.models import Tenant
from tenants.states import TenantStatus


def changelist(model: type[Model], **wanted: Any) -> str:
    """A model's list, filtered; "" where the console has none."""
    if not admin.site.is_registered(model):
        return ""
    options = model._meta
    path = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return f"{path}?{urlencode(wanted)}" if wanted else path


def page(model: type[Model], key: Any) -> str:
    """One row's page; "" where the console has none."""
    if not admin.site.is_registered(model):
        return ""
    options = model._meta
    return reverse(f"admin:{options.app_label}_{options.model_name}_change", args=[key])


def works(queue: str, **wanted: Any) -> str:
    """A queue's works."""
    return changelist(queues()[queue].model, **wanted) if queue in queues() else ""


def work(queue: str, key: Any) -> str:
    """One work."""
    return page(queues()[queue].model, key) if queue in queues() else ""


def ended(queue: str, state: str, span: str) -> str:
    """A queue's works that came to an end within a span, `FROM..TO`; or the letters that came."""
    if state == "dead_letter":
        return changelist(DeadLetter, queue=queue, **({"age": span} if span else {}))
    return works(queue, state=state, **({"ended": span} if span else {}))


def letters(**wanted: Any) -> str:
    """Open dead letters."""
    return changelist(DeadLetter, resolved="no", **wanted)


def lanes(**wanted: Any) -> str:
    return changelist(Lane, **wanted)


def paused() -> str:
    """Lanes that are paused now."""
    return lanes(paused="yes")


def failing() -> str:
    """Lanes that are not paused, and have failed several times in a row."""
    return lanes(paused="no", failing="often")


def open_work() -> str:
    """What lies open in all queues."""
    return reverse("admin:open_work")


def drainers() -> str:
    """Those that live."""
    return changelist(Drainer, alive="yes")


def drainer(number: int) -> str:
    return page(Drainer, number)


def lane(key: Any) -> str:
    return page(Lane, key)


def tenant(number: int) -> str:
    return page(Tenant, number)


def works_of(number: int) -> str:
    """A tenant's newest works, by queue."""
    return f"{there}#works" if (there := tenant(number)) else ""


def suspended() -> str:
    """Tenants that are suspended."""
    return changelist(Tenant, status=TenantStatus.SUSPENDED.value)
