import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from lifecycle.sql import HERE, run_file
from tenants.rls import IsolateTenant

HOMES = [("pooled", "Pooled"), ("dedicated", "Dedicated")]
PHASES = [
    ("prepare", "Prepare"),
    ("capture", "Capture"),
    ("copy", "Copy"),
    ("verify", "Verify"),
    ("switch", "Switch"),
    ("keep", "Keep"),
    ("clear", "Clear"),
    ("done", "Done"),
]


def _tenant() -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        default=tenants.context.current_tenant_id,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to="tenants.tenant",
    )


def _text(length: int) -> models.CharField:
    return models.CharField(blank=True, db_default="", max_length=length)


def _count() -> models.BigIntegerField:
    return models.BigIntegerField(db_default=0)


class Migration(migrations.Migration):
    """Plan changes, which move a tenant's rows to another home while it goes on working."""

    dependencies = [("tenants", "0007_life")]

    operations = [
        migrations.CreateModel(
            name="PlanMove",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tenant", _tenant()),
                ("plan_before", models.CharField(max_length=40)),
                ("plan_after", models.CharField(max_length=40)),
                ("home_before", models.CharField(choices=HOMES, max_length=10)),
                ("home_after", models.CharField(choices=HOMES, max_length=10)),
                ("actor", models.CharField(max_length=100)),
                ("reason", models.CharField(max_length=500)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "phase",
                    models.CharField(
                        choices=PHASES, db_default="prepare", default="prepare", max_length=10
                    ),
                ),
                ("shape", _text(32)),
                ("table", _text(63)),
                ("place", models.JSONField(null=True)),
                ("rows_total", _count()),
                ("rows_done", _count()),
                ("changes", _count()),
                ("cleared", _count()),
                (
                    "checks",
                    models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
                ),
                ("horizon", _text(20)),
                ("refused_ms", models.IntegerField(null=True)),
                ("error", _text(500)),
                ("started_at", models.DateTimeField(null=True)),
                ("moved_at", models.DateTimeField(null=True)),
                ("abandoned_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("finished_at__isnull", True)),
                        fields=("tenant",),
                        name="planmove_open",
                    )
                ],
            },
        ),
        IsolateTenant("PlanMove", grant="select"),
        migrations.CreateModel(
            name="Change",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("tenant", _tenant()),
                ("table", models.CharField(max_length=63)),
                ("key", models.JSONField()),
            ],
        ),
        IsolateTenant("Change", grant=""),
        run_file("home.sql", undo=(HERE / "home_undo.sql").read_text(encoding="utf-8")),
        run_file("capture.sql", undo="drop function slipway.capture_move() cascade"),
        run_file("plans.sql", undo=(HERE / "plans_undo.sql").read_text(encoding="utf-8")),
    ]
