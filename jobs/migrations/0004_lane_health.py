import django.db.models.deletion
from django.db import migrations, models

import tenants.context
from tenants.rls import IsolateTenant
from tenants.roles import APP

# What replaying and discarding write of a tenant's own letters (jobs.services).
RESOLVE = "update (resolved_at, resolved_by, resolution, why) on jobs_deadletter"


class Migration(migrations.Migration):
    """A lane's key is its tenant's: nobody can write another's, nor take it. And it has health."""

    dependencies = [
        ("jobs", "0003_job_finished"),
        ("tenants", "0002_keys_and_platform"),
    ]

    operations = [
        migrations.AlterField(
            model_name="deadletter",
            name="reason",
            field=models.CharField(
                choices=[
                    ("exhausted", "Exhausted"),
                    ("failed", "Failed"),
                    ("poison", "Poison"),
                    ("undo", "Undo"),
                    ("overflow", "Overflow"),
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="state",
            field=models.CharField(
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
        migrations.RunSQL(
            "create table jobs_lane_before as select * from jobs_lane",
            "drop table if exists jobs_lane_before",
        ),
        migrations.DeleteModel("Lane"),
        migrations.CreateModel(
            name="Lane",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("key", models.CharField(db_collation="C", max_length=100)),
                ("paused_until", models.DateTimeField(null=True)),
                (
                    "paused_why",
                    models.CharField(blank=True, db_default="", default="", max_length=200),
                ),
                ("window", models.IntegerField(null=True)),
                ("rate", models.FloatField(null=True)),
                ("weight", models.FloatField(db_default=1.0, default=1.0)),
                ("tokens", models.FloatField(null=True)),
                ("refilled_at", models.DateTimeField(null=True)),
                ("failures", models.IntegerField(db_default=0, default=0)),
                ("trips", models.IntegerField(db_default=0, default=0)),
                ("failing_since", models.DateTimeField(null=True)),
                ("failed_at", models.DateTimeField(null=True)),
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
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "key"), name="lane_key"),
                ],
            },
        ),
        # An endpoint's settings are mirrored to its lane; the health is the engine's.
        IsolateTenant(
            "Lane", grant='select, insert, update (paused_until, paused_why, "window", rate)'
        ),
        migrations.RunSQL(
            """
            insert into jobs_lane (tenant_id, key, paused_until, paused_why, "window", rate, weight)
            select tenant_id, key, paused_until, paused_why, "window", rate, weight
            from jobs_lane_before where tenant_id is not null;
            drop table jobs_lane_before;
            """,
            migrations.RunSQL.noop,
        ),
        migrations.RunSQL(f"grant {RESOLVE} to {APP}", f"revoke {RESOLVE} from {APP}"),
    ]
