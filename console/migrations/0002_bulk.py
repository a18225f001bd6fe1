from typing import Any

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models
from psycopg import sql

import config.ids

# What statistics need not read: a table as a whole, or some columns of it. Columns that such a table
# gets later are not read either, until a migration grants them.
WITHHELD: dict[str, tuple[str, ...]] = {
    "axes_accessattempt": (),
    "axes_accessattemptexpiration": (),
    "axes_accessfailurelog": (),
    "axes_accesslog": (),
    "campaigns_provideraccount": ("credentials",),
    "console_bulk": (),
    "jobs_job": ("args",),  # Among them mails that are not sent yet.
    "onboarding_pendingonboarding": ("key_digest", "fingerprint"),
    "onboarding_welcomemail": ("address_digest",),
    "tenants_apikey": ("secret_hash",),
    "tenants_platformkey": ("secret_hash",),
    "tenants_session": (),
    "tenants_user": ("password",),
    "webhooks_endpoint": ("secrets", "custom_headers", "url"),  # Some put a token into it.
}


REVOKE = sql.SQL("revoke select on public.{} from slipway_analytics")
GRANT = sql.SQL("grant select {} on public.{} to slipway_analytics")


def withhold(apps: Any, editor: Any) -> None:
    with editor.connection.cursor() as cursor:
        for table, columns in WITHHELD.items():
            name = sql.Identifier(table)
            cursor.execute(REVOKE.format(name))
            if columns:
                described = editor.connection.introspection.get_table_description(cursor, table)
                kept = [sql.Identifier(one.name) for one in described if one.name not in columns]
                read = sql.SQL("({})").format(sql.SQL(", ").join(kept))
                cursor.execute(GRANT.format(read, name))


def give_back(apps: Any, editor: Any) -> None:
    with editor.connection.cursor() as cursor:
        for table in WITHHELD:
            cursor.execute(REVOKE.format(sql.Identifier(table)))  # Of columns, too.
            cursor.execute(GRANT.format(sql.SQL(""), sql.Identifier(table)))


class Migration(migrations.Migration):
    """What operators begin for everything that a filter finds; what statistics do not read."""

    dependencies = [
        ("console", "0001_initial"),
        ("axes", "0010_accessattemptexpiration"),
        ("campaigns", "0003_console_lists"),
        ("jobs", "0014_console_actions"),
        ("onboarding", "0006_console_lists"),
        ("tenants", "0007_life"),
        ("webhooks", "0014_console_lists"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Bulk",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("model", models.CharField(max_length=100)),
                ("act", models.CharField(max_length=40)),
                ("filter", models.TextField(blank=True)),
                ("values", models.JSONField(default=dict)),
                ("reason", models.CharField(max_length=500)),
                ("request_id", models.CharField(blank=True, max_length=64)),
                ("total", models.IntegerField()),
                ("capped", models.BooleanField(default=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("cancelled_at", models.DateTimeField(null=True)),
                ("done", models.IntegerField(default=0)),
                ("skipped", models.IntegerField(default=0)),
                ("place", models.CharField(blank=True, max_length=100)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "action in bulk",
                "verbose_name_plural": "actions in bulk",
            },
        ),
        migrations.RunPython(withhold, give_back),
    ]
