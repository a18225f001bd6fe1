"""`manage.py migrate`: public, then the pool, then every dedicated schema."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from django.utils.module_loading import import_string
from django_tenants.management.commands.migrate_schemas import MigrateSchemasCommand

from config.terminal import ShowsExamples
from tenants import schemas
from tenants.context import POOL
from tenants.postgres.keys import install_context_key


class Command(ShowsExamples, MigrateSchemasCommand):  # type: ignore[misc]
    """django-tenants' command asks the tenant rows; pooled tenants have no schema to migrate."""

    help = "Bring the public schema, the pool and every dedicated tenant's schema up to date."
    examples = """
  manage.py migrate
  manage.py migrate --plan
  manage.py migrate --schema t_42
"""

    def handle(self, *args: Any, **options: Any) -> None:
        if "owner" not in settings.DATABASES:
            raise CommandError("OWNER_DATABASE_URL is not set: only the owner's role migrates.")
        options["database"] = "owner"
        if options.get("schema_name") or options.get("tenant"):
            self._migrate_home(*args, **options)
            return
        super().handle(*args, **{**options, "shared": True})
        if options.get("plan") or options.get("check_unapplied"):
            return
        with connections["owner"].cursor() as cursor:
            install_context_key(cursor, settings.CONTEXT_KEY)
        for dotted in settings.SLIPWAY["AFTER_MIGRATE"]:
            import_string(dotted)("owner")
        if options.get("shared"):
            return
        verbosity = int(options["verbosity"])
        for schema in [POOL, *schemas.dedicated_schemas()]:
            schemas.ensure_schema(schema, verbosity=verbosity)

    def _migrate_home(self, *args: Any, **options: Any) -> None:
        """A schema with tenants' rows: by the migrations of tenant apps, and what those need.

        Django applies all others too, which the router makes empty: seconds of CPU for each schema.
        """
        labels = [options["app_label"]] if options.get("app_label") else schemas.tenant_labels()
        for label in labels:
            super().handle(*args, **{**options, "app_label": label})
