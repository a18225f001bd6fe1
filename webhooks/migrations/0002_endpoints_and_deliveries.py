from datetime import UTC, datetime

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from jobs import partitions
from jobs.tables import WorkTable
from tenants.rls import Grant, IsolateTenant

PAYLOADS = """
create table webhooks_payload (
  event_id uuid not null,
  tenant_id bigint not null,
  created_at timestamptz not null,
  data text not null,
  primary key (tenant_id, event_id, created_at)
) partition by range (created_at);
"""
# What replaying and discarding write (jobs.services); the rest is the engine's.
RESOLVED = "update (state, priority, due_at, finished_at, losses, max_attempts)"


def make_first(apps, schema_editor):
    """Today's partition and those of the next two weeks; `manage.py partitions` goes on from there."""
    today = datetime.now(UTC).date()
    with schema_editor.connection.cursor() as cursor:
        days = partitions.missing(cursor, today=today, parent="webhooks_payload")
        partitions.make(cursor, days, parent="webhooks_payload")


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_keys_and_platform"),
        ("webhooks", "0001_initial"),
        ("jobs", "0004_lane_health"),
    ]

    operations = [
        migrations.CreateModel(
            name="Payload",
            fields=[
                ("event_id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        default=tenants.context.current_tenant_id,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("data", models.TextField()),
            ],
            options={
                "db_table": "webhooks_payload",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("lane", models.CharField(db_collation="C", max_length=100)),
                ("seq", models.BigIntegerField(blank=True, null=True)),
                (
                    "priority",
                    models.SmallIntegerField(
                        choices=[(0, "First"), (1, "Retry"), (2, "Replay")], db_default=0, default=0
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("scheduled", "Scheduled"),
                            ("pending", "Pending"),
                            ("processing", "Processing"),
                            ("held", "Held"),
                            ("failed", "Failed"),
                            ("succeeded", "Succeeded"),
                            ("dead_letter", "Dead Letter"),
                            ("discarding", "Discarding"),
                            ("discarded", "Discarded"),
                            ("cancelled", "Cancelled"),
                            ("unknown", "Unknown"),
                        ],
                        db_default="pending",
                        default="pending",
                        max_length=12,
                    ),
                ),
                (
                    "due_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("attempts", models.SmallIntegerField(db_default=0, default=0)),
                ("max_attempts", models.SmallIntegerField()),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("losses", models.SmallIntegerField(db_default=0, default=0)),
                ("lease", models.BigIntegerField(blank=True, null=True)),
                ("drainer", models.BigIntegerField(blank=True, null=True)),
                (
                    "last_error",
                    models.CharField(blank=True, db_default="", default="", max_length=500),
                ),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("host", models.CharField(db_collation="C", max_length=260)),
                ("test", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Endpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("url", models.TextField()),
                ("host", models.CharField(db_collation="C", max_length=260)),
                ("description", models.CharField(blank=True, default="", max_length=200)),
                (
                    "event_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=100),
                        blank=True,
                        default=list,
                        size=None,
                    ),
                ),
                ("custom_headers", models.TextField(blank=True, default="")),
                ("secrets", models.JSONField(default=list)),
                ("rate", models.FloatField(null=True)),
                ("max_in_flight", models.SmallIntegerField(null=True)),
                ("timeout", models.FloatField(null=True)),
                (
                    "schedule",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), null=True, size=None
                    ),
                ),
                ("ordered", models.BooleanField(default=False)),
                ("next_seq", models.BigIntegerField(db_default=1, default=1)),
                ("disabled_at", models.DateTimeField(null=True)),
                (
                    "disabled_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("requested", "Requested"),
                            ("gone", "Gone"),
                            ("failing", "Failing"),
                        ],
                        db_default="",
                        default="",
                        max_length=10,
                    ),
                ),
                ("deleted_at", models.DateTimeField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "updated_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
        ),
        migrations.CreateModel(
            name="EventType",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(db_collation="C", max_length=100)),
                ("version", models.SmallIntegerField(default=1)),
                ("description", models.CharField(blank=True, default="", max_length=500)),
                ("schema", models.JSONField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("archived_at", models.DateTimeField(null=True)),
            ],
        ),
        # What was published before today keeps its payload in the event's own row.
        migrations.RenameField("event", "payload", "kept_payload"),
        migrations.AlterField("event", "kept_payload", models.TextField(null=True)),
        migrations.AddField(
            model_name="event",
            name="fingerprint",
            field=models.CharField(db_default="", default="", max_length=64),
        ),
        migrations.AddField(
            model_name="event",
            name="version",
            field=models.SmallIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="event",
            name="created_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AlterField(
            model_name="event",
            name="tenant",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                default=tenants.context.current_tenant_id,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddIndex(
            model_name="event",
            index=models.Index(fields=["created_at"], name="event_age"),
        ),
        migrations.AddField(
            model_name="delivery",
            name="event",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="webhooks.event",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="tenant",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                default=tenants.context.current_tenant_id,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="tenant",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                default=tenants.context.current_tenant_id,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="endpoint",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="webhooks.endpoint",
            ),
        ),
        migrations.AddConstraint(
            model_name="eventtype",
            constraint=models.UniqueConstraint(
                fields=("name", "version"), name="event_type_version"
            ),
        ),
        migrations.AddIndex(
            model_name="endpoint",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", True)),
                fields=["tenant", "id"],
                name="endpoint_live",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["tenant", "lane", "priority", "id"],
                name="delivery_runnable",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state__in", ["scheduled", "failed", "discarding"])),
                fields=["due_at"],
                name="delivery_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "processing")),
                fields=["tenant", "lane"],
                name="delivery_processing",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("drainer__isnull", False)),
                fields=["drainer"],
                name="delivery_owned",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(
                    ("seq__isnull", False),
                    models.Q(("state__in", ("succeeded", "discarded", "cancelled")), _negated=True),
                ),
                fields=["tenant", "lane", "seq"],
                name="delivery_head",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "held")),
                fields=["tenant", "lane", "id"],
                name="delivery_held",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["tenant", "endpoint", "-id"], name="delivery_of_endpoint"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                name="delivery_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("tenant", "event", "endpoint"), name="delivery_once"
            ),
        ),
        Grant("EventType", app="select"),
        IsolateTenant("Endpoint", grant="select, insert, update"),
        migrations.RunSQL(PAYLOADS, "drop table webhooks_payload"),
        IsolateTenant("Payload", grant="select, insert", tenant_key=False),
        migrations.RunPython(make_first, migrations.RunPython.noop),
        IsolateTenant(
            "Delivery",
            references={"event": "webhooks.Event", "endpoint": "webhooks.Endpoint"},
            grant=f"select, insert, {RESOLVED}",
        ),
        WorkTable("Delivery"),
    ]
