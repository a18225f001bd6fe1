import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Upper

import tenants.context
from tenants.rls import IsolateTenant


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Guest",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "tenant_id",
                    models.BigIntegerField(
                        default=tenants.context.current_tenant_id, editable=False
                    ),
                ),
                ("name", models.TextField()),
                (
                    "shouted",
                    models.GeneratedField(
                        expression=Upper("name"), output_field=models.TextField(), db_persist=True
                    ),
                ),
                ("chair", models.IntegerField()),
                (
                    "brought_by",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        to="parlour.guest",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint("tenant_id", "chair", name="guest_chair"),
                ],
            },
        ),
        IsolateTenant("Guest", references={"brought_by": "parlour.Guest"}),
    ]
