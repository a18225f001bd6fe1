import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from tenants.rls import IsolateTenant


def _tenant() -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        default=tenants.context.current_tenant_id,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to="tenants.tenant",
    )


def _id() -> models.UUIDField:
    return models.UUIDField(
        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
    )


def _now() -> models.DateTimeField:
    return models.DateTimeField(db_default=django.db.models.functions.datetime.Now())


def _text(length: int) -> models.CharField:
    return models.CharField(blank=True, db_default="", default="", max_length=length)


def _count() -> models.BigIntegerField:
    return models.BigIntegerField(db_default=0, default=0)


class Migration(migrations.Migration):
    """Archives of tenants, and how tenants end. What either came to is the operator's to write."""

    dependencies = [("lifecycle", "0001_initial"), ("tenants", "0007_life")]

    operations = [
        migrations.CreateModel(
            name="Export",
            fields=[
                ("id", _id()),
                ("actor", models.CharField(max_length=100)),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("created_at", _now()),
                ("started_at", models.DateTimeField(null=True)),
                ("table", _text(100)),
                ("rows", _count()),
                ("taken_at", models.DateTimeField(null=True)),
                ("file", _text(200)),
                ("size", _count()),
                ("digest", _text(64)),
                ("finished_at", models.DateTimeField(null=True)),
                ("erased_at", models.DateTimeField(null=True)),
                ("tenant", _tenant()),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("finished_at__isnull", False)),
                        fields=["finished_at"],
                        name="archive_finished",
                    )
                ],
            },
        ),
        # What it may name is what a caller may say: which file is served and deleted is the job's.
        IsolateTenant("Export", grant="select, insert (id, tenant_id, actor, reason)"),
        migrations.CreateModel(
            name="Closure",
            fields=[
                ("id", _id()),
                ("actor", models.CharField(max_length=100)),
                ("reason", models.CharField(max_length=500)),
                ("created_at", _now()),
                ("closes_at", models.DateTimeField()),
                ("begun_at", models.DateTimeField(null=True)),
                ("phase", _text(100)),
                ("works", models.JSONField(null=True)),
                ("rows", _count()),
                ("files", _count()),
                ("people", models.IntegerField(db_default=0, default=0)),
                ("finished_at", models.DateTimeField(null=True)),
                ("tenant", _tenant()),
            ],
        ),
        IsolateTenant("Closure", grant="select, insert (id, tenant_id, actor, reason, closes_at)"),
    ]
