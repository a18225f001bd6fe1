"""What the database's own catalogue says of isolation: the audit that no model can argue with."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections

from tenants import isolation
from tenants.context import NOWHERE, POOL
from tenants.roles import APP
from tenants.sql import HERE

# Policies beside tenant_isolation, and tables that SQL files grant to the app role.
POLICIES = [
    "onboarding_pendingonboarding.sign_up",  # A sign-up is written before its tenant is there.
    "tenants_user.members",
    "tenants_user.members_sign_in",
    "tenants_user.people_join",
]
GRANTED = ["tenants_user"]
# Unique for everybody on purpose: addresses, and random values that nobody can guess.
GLOBAL_KEYS = [
    "onboarding_key",
    "onboarding_slug",
    "tenants_apikey_prefix_key",
    "tenants_domain_domain_key",
    "tenants_tenant_schema_name_key",
    "tenants_tenant_slug_key",
    "tenants_tenant_uuid_key",
]


def findings(*, using: str) -> list[str]:
    """What is wrong with the database's isolation, a sentence each; empty when nothing is."""
    with connections[using].cursor() as cursor:
        # One that neither may enter holds no tenant's tables; look_at_migrations tells of it.
        cursor.execute(
            r"select nspname from pg_namespace where nspname ~ '^t_[0-9]+$'"
            " and (has_schema_privilege(oid, 'usage') or has_schema_privilege(%s, oid, 'usage'))",
            [APP],
        )
        dedicated = [schema for (schema,) in cursor.fetchall()]
        faults = (HERE / "faults.sql").read_text(encoding="utf-8")
        cursor.execute(faults, _expected([POOL, *dedicated]))
        return [sentence for (sentence,) in cursor.fetchall()]


def _expected(homes: list[str]) -> dict[str, Any]:
    """What models and migrations say should be there; `homes` are the tenant apps' schemas."""
    keys = [
        (schema, model._meta.db_table, f"{model._meta.db_table}_{field}_same_tenant")
        for label, operation in isolation.isolating_operations().items()
        for model in [apps.get_model(label)]
        for schema in (homes if _is_in_homes(model._meta.app_label) else [NOWHERE])
        for field in operation.references
    ]
    granted = [apps.get_model(label)._meta.db_table for label in isolation.granted_models()]
    return {
        "policies": POLICIES,
        "global_keys": GLOBAL_KEYS,
        "granted": GRANTED + granted,
        "schemas": [schema for schema, _, _ in keys],
        "tables": [table for _, table, _ in keys],
        "keys": [key for _, _, key in keys],
    }


def _is_in_homes(app_label: str) -> bool:
    return apps.get_app_config(app_label).name in settings.TENANT_APPS
