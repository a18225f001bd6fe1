import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import config.ids
import tenants.context
from tenants.rls import IsolateTenant

# by_operator is the operator's alone: whoever could write it would have the operator's rights.
GRANT = """
select,
insert (id, tenant_id, queue, action, selection, actor, reason, total),
update (done, skipped, place, started_at, finished_at, cancelled_at)
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_lane_opened")]

    operations = [
        migrations.CreateModel(
            name="Replay",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=config.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("queue", models.CharField(max_length=40)),
                (
                    "action",
                    models.CharField(
                        choices=[
                            ("replay", "Replay"),
                            ("discard", "Discard"),
                            ("missing", "Missing"),
                        ],
                        max_length=10,
                    ),
                ),
                ("selection", models.JSONField()),
                ("actor", models.CharField(max_length=100)),
                ("reason", models.CharField(max_length=500)),
                ("total", models.IntegerField()),
                ("by_operator", models.BooleanField(db_default=False, default=False)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("cancelled_at", models.DateTimeField(null=True)),
                ("done", models.IntegerField(db_default=0, default=0)),
                ("skipped", models.IntegerField(db_default=0, default=0)),
                (
                    "place",
                    models.CharField(blank=True, db_default="", default="", max_length=100),
                ),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
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
                "indexes": [
                    models.Index(
                        condition=models.Q(("finished_at__isnull", False)),
                        fields=["finished_at"],
                        name="replay_finished",
                    )
                ],
            },
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                condition=models.Q(("resolved_at__isnull", False)),
                fields=["resolved_at"],
                name="deadletter_resolved",
            ),
        ),
        IsolateTenant("Replay", grant=GRANT.strip().replace("\n", " ")),
    ]
