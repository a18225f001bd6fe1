"""What operators do to a tenant's life: another plan, an export, its closing; and to a person."""

from typing import Any

from django import forms
from django.conf import settings

from config.admin.acts import Act, Asked, Because
from config.ids import format_id
from config.problems import Problem
from jobs.errors import ReasonMissing
from lifecycle import closing, erasing, exporting, plans
from lifecycle.errors import SlugMistyped
from tenants.models import Tenant, User
from tenants.routers import as_app
from tenants.services import CLOSABLE
from tenants.states import TenantStatus

_REFUSALS = (Problem, ReasonMissing)


def _plans() -> list[tuple[str, str]]:
    return [(name, f"{name} ({plan['home']})") for name, plan in settings.SLIPWAY["PLANS"].items()]


class Plan(Because):
    """To which."""

    plan = forms.ChoiceField(
        choices=_plans,
        help_text="To a plan of another home its data is moved while it goes on working.",
    )


class Closing(Because):
    """Which: typed once more, since nothing brings it back once its grace is over."""

    slug = forms.CharField(label="Its slug again", max_length=63)


class Person(Because):
    """Whether tenants may be left without an owner."""

    ownerless = forms.BooleanField(
        required=False,
        label="Even if a tenant has no other owner",
        help_text="Without this, whoever is the only owner of a tenant in use is not erased.",
    )


def _said(asked: Asked) -> dict[str, Any]:
    return {"actor": asked.actor, "reason": asked.reason}


def _plan(tenant: Tenant, asked: Asked) -> str:
    with as_app():
        move = plans.start(tenant_id=tenant.pk, plan=asked.values["plan"], **_said(asked))
    at_once = "The tenant has its new plan." if move.finished_at else "Its data is being moved"
    return at_once if move.finished_at else f"{at_once}: {format_id('mov', move.pk)}."


def _export(tenant: Tenant, asked: Asked) -> str:
    with as_app():
        made = exporting.begin(tenant_id=tenant.pk, **_said(asked))
    return f"It is being written: {format_id('exp', made.pk)}."


def _close(tenant: Tenant, asked: Asked) -> None:
    if asked.values["slug"].strip() != tenant.slug:
        raise SlugMistyped(f"It is {tenant.slug}; nothing was changed.")
    with as_app():
        closing.close(tenant_id=tenant.pk, **_said(asked))


def _erase(user: User, asked: Asked) -> None:
    with as_app():
        erasing.erase(email=user.email, ownerless=asked.values["ownerless"], **_said(asked))


TENANTS = (
    Act(
        name="plan",
        label="Change plan",
        permission="plan",
        done="moved",
        do=_plan,
        form=Plan,
        fits=lambda tenant: tenant.status in CLOSABLE,
        refusals=_REFUSALS,
        many=False,
    ),
    Act(
        name="export",
        label="Export",
        permission="export",
        done="being exported",
        means="Everything that is kept of it is written to an archive, in the background.",
        do=_export,
        fits=lambda tenant: tenant.status not in (TenantStatus.PROVISIONING, TenantStatus.CLOSED),
        refusals=_REFUSALS,
        many=False,
    ),
    Act(
        name="close",
        label="Close",
        permission="close",
        done="closing",
        means="Its pages and keys answer 410 at once, and its work waits. In its days of grace it"
        " can be reopened; then everything of it is purged, for good.",
        do=_close,
        form=Closing,
        fits=lambda tenant: tenant.status in CLOSABLE,
        refusals=_REFUSALS,
        many=False,
    ),
)
PEOPLE = (
    Act(
        name="erase",
        label="Erase",
        permission="erase",
        done="erased",
        means="The account, its sessions, its memberships and what else has its address are erased"
        " for good. The audit trail keeps no personal data of it.",
        do=_erase,
        form=Person,
        fits=lambda user: not user.is_staff,
        refusals=_REFUSALS,
        many=False,
    ),
)
