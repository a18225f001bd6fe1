import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from jobs.tables import WorkTable
from tenants.rls import IsolateTenant


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0002_keys_and_platform"),
    ]

    operations = [
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("queue", models.CharField(max_length=40)),
                ("work_id", models.UUIDField()),
                ("number", models.SmallIntegerField()),
                ("started_at", models.DateTimeField()),
                ("duration_ms", models.IntegerField(null=True)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("succeeded", "Succeeded"),
                            ("retry", "Retry"),
                            ("failed", "Failed"),
                            ("unknown", "Unknown"),
                            ("lost", "Lost"),
                        ],
                        max_length=10,
                    ),
                ),
                ("error", models.TextField(blank=True)),
                ("request", models.JSONField(null=True)),
                ("response", models.JSONField(null=True)),
                ("drainer", models.BigIntegerField()),
            ],
            options={
                "db_table": "jobs_attempt",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Drainer",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.IntegerField()),
                (
                    "started_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "beat_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("dead_at", models.DateTimeField(null=True)),
                ("busy", models.IntegerField(db_default=0, default=0)),
                ("slots", models.IntegerField(db_default=0, default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Lane",
            fields=[
                (
                    "key",
                    models.CharField(
                        db_collation="C", max_length=100, primary_key=True, serialize=False
                    ),
                ),
                ("paused_until", models.DateTimeField(null=True)),
                ("paused_why", models.CharField(blank=True, default="", max_length=200)),
                ("window", models.IntegerField(null=True)),
                ("rate", models.FloatField(null=True)),
                ("weight", models.FloatField(default=1.0)),
                ("failing_since", models.DateTimeField(null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("queue", models.CharField(max_length=40)),
                ("work_id", models.UUIDField()),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("exhausted", "Exhausted"),
                            ("failed", "Failed"),
                            ("poison", "Poison"),
                            ("undo", "Undo"),
                        ],
                        max_length=10,
                    ),
                ),
                ("error", models.CharField(blank=True, max_length=500)),
                ("request", models.JSONField(null=True)),
                ("response", models.JSONField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("resolved_at", models.DateTimeField(null=True)),
                (
                    "resolved_by",
                    models.CharField(blank=True, db_default="", default="", max_length=100),
                ),
                (
                    "resolution",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("replayed", "Replayed"),
                            ("discarded", "Discarded"),
                            ("cancelled", "Cancelled"),
                        ],
                        db_default="",
                        default="",
                        max_length=10,
                    ),
                ),
                ("why", models.CharField(blank=True, db_default="", default="", max_length=500)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("resolved_at__isnull", True)),
                        fields=["-created_at"],
                        name="deadletter_inbox",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("resolved_at__isnull", True)),
                        fields=("tenant", "queue", "work_id"),
                        name="deadletter_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Job",
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
                ("kind", models.CharField(max_length=60)),
                ("args", models.JSONField(blank=True, default=dict)),
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
                        name="job_runnable",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["scheduled", "failed", "discarding"])),
                        fields=["due_at"],
                        name="job_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("state", "processing")),
                        fields=["tenant", "lane"],
                        name="job_processing",
                    ),
                    models.Index(
                        condition=models.Q(("drainer__isnull", False)),
                        fields=["drainer"],
                        name="job_owned",
                    ),
                ],
            },
        ),
        migrations.RunSQL("create sequence jobs_lease_seq", "drop sequence jobs_lease_seq"),
        # The app role inserts its own works and sees them; the rest is the engine's.
        IsolateTenant("Job", grant="select, insert"),
        WorkTable("Job"),
        IsolateTenant("DeadLetter", grant="select"),
        IsolateTenant("Lane", grant=""),
    ]
