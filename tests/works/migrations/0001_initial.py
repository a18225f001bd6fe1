import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from jobs.tables import WorkTable
from tenants.rls import Grant, IsolateTenant


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("jobs", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Trace",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("work_id", models.UUIDField()),
                ("lease", models.BigIntegerField()),
                ("attempt", models.IntegerField()),
                ("pid", models.IntegerField()),
                ("what", models.CharField(max_length=20)),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Parcel",
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
                ("act", models.CharField(db_default="succeed", default="succeed", max_length=200)),
                ("result", models.CharField(db_default="", default="", max_length=10)),
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
            ],
            options={
                "abstract": False,
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["tenant", "lane", "priority", "id"],
                        name="parcel_runnable",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["scheduled", "failed", "discarding"])),
                        fields=["due_at"],
                        name="parcel_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("state", "processing")),
                        fields=["tenant", "lane"],
                        name="parcel_processing",
                    ),
                    models.Index(
                        condition=models.Q(("drainer__isnull", False)),
                        fields=["drainer"],
                        name="parcel_owned",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Telegram",
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
                ("act", models.CharField(db_default="succeed", default="succeed", max_length=200)),
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
            ],
            options={
                "abstract": False,
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["tenant", "lane", "priority", "id"],
                        name="telegram_runnable",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["scheduled", "failed", "discarding"])),
                        fields=["due_at"],
                        name="telegram_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("state", "processing")),
                        fields=["tenant", "lane"],
                        name="telegram_processing",
                    ),
                    models.Index(
                        condition=models.Q(("drainer__isnull", False)),
                        fields=["drainer"],
                        name="telegram_owned",
                    ),
                ],
            },
        ),
        IsolateTenant("Parcel", grant="select, insert"),
        WorkTable("Parcel"),
        IsolateTenant("Telegram", grant="select, insert"),
        WorkTable("Telegram"),
        Grant("Trace", app="select, insert"),
        migrations.RunSQL(
            "grant usage on sequence works_trace_id_seq to slipway_app", migrations.RunSQL.noop
        ),
    ]
