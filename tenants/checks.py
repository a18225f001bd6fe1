"""System checks: a tenant's table without row-level security stops the build.

The static ones read models and migrations; the one on the database reads the catalogue.
"""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import models

from tenants import catalogue, currencies
from tenants.isolation import isolating_operations
from tenants.rls import IsolateTenant


@register("tenancy")
def tenant_tables_are_isolated(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Every table of tenants is marked, isolated by a migration, and keyed with its tenant."""
    operations = isolating_operations()
    errors: list[CheckMessage] = []
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.proxy and _is_tenants(model):
            errors += _check_model(model, operations.get(model._meta.label_lower))
    return errors


@register("tenancy")
def everybodys_currency_is_one(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """SLIPWAY["CUSTOMERS"]["currency"]."""
    said = settings.SLIPWAY["CUSTOMERS"]["currency"]
    flaw = currencies.flaw(said)
    if said is None or flaw is None:
        return []
    return [
        Error(
            f'SLIPWAY["CUSTOMERS"]["currency"] is {said!r}. {flaw[1]}',
            hint="With None, amounts are in no currency where nobody has said a tenant's own.",
            id="tenants.E005",
        )
    ]


@register(Tags.database)
def database_keeps_tenants_apart(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """What the catalogue says: policies, forced RLS, keys, rights (`check --database operator`)."""
    return [
        Error(finding, id="tenants.E010")
        for alias in databases or ()
        if alias == "operator"
        for finding in catalogue.findings(using=alias)
    ]


def _is_tenants(model: type[models.Model]) -> bool:
    fields = {field.column for field in model._meta.local_concrete_fields}
    in_tenant_app = model._meta.app_config is not None and model._meta.app_config.name in (
        settings.TENANT_APPS
    )
    return bool(in_tenant_app or getattr(model, "tenant_isolated", False) or fields & {"tenant_id"})


def _check_model(model: type[models.Model], operation: IsolateTenant | None) -> list[CheckMessage]:
    label = model._meta.label
    if operation is None:
        return [
            Error(
                f"{label} holds tenants' rows, and no migration isolates them.",
                hint=f'Add tenants.rls.IsolateTenant("{model._meta.object_name}") to a migration.',
                obj=model,
                id="tenants.E001",
            )
        ]
    errors: list[CheckMessage] = []
    columns = {field.column for field in model._meta.local_concrete_fields}
    if operation.tenant_column not in columns:
        errors.append(
            Error(f"{label} has no {operation.tenant_column}.", obj=model, id="tenants.E002")
        )
    if not getattr(model, "tenant_isolated", False):
        errors.append(
            Error(
                f"{label} is isolated, and does not say so.",
                hint="Set tenant_isolated = True, or inherit TenantOwned.",
                obj=model,
                id="tenants.E003",
            )
        )
    return errors + _check_references(model, operation)


def _check_references(model: type[models.Model], operation: IsolateTenant) -> list[CheckMessage]:
    """A plain foreign key into another tenant table would reach, and betray, others' rows."""
    return [
        Error(
            f"{model._meta.label}.{field.name} points into a tenant table by a plain key.",
            hint="Set db_constraint=False and name it in IsolateTenant(references=…).",
            obj=field,
            id="tenants.E004",
        )
        for field in model._meta.local_concrete_fields
        if isinstance(field, models.ForeignKey)
        and getattr(field.related_model, "tenant_isolated", False)
        and field.related_model._meta.label != settings.TENANT_MODEL
        and (getattr(field, "db_constraint", True) or field.name not in operation.references)
    ]
