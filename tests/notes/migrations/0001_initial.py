import django.db.models.deletion
from django.db import migrations, models

import config.ids
import tenants.context
from tenants.rls import IsolateTenant


def tenant():
    return models.ForeignKey(
        db_index=False,
        default=tenants.context.current_tenant_id,
        on_delete=django.db.models.deletion.CASCADE,
        related_name="+",
        to="tenants.tenant",
    )


class Migration(migrations.Migration):
    initial = True
    dependencies = [("tenants", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Notebook",
            fields=[
                (
                    "id",
                    models.UUIDField(default=config.ids.uuid7, primary_key=True, serialize=False),
                ),
                ("title", models.CharField(max_length=100)),
                ("tenant", tenant()),
            ],
            options={
                "constraints": [models.UniqueConstraint("tenant", "title", name="notebook_title")],
            },
        ),
        migrations.CreateModel(
            name="Note",
            fields=[
                (
                    "id",
                    models.UUIDField(default=config.ids.uuid7, primary_key=True, serialize=False),
                ),
                ("text", models.TextField()),
                (
                    "notebook",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="notes.notebook",
                    ),
                ),
                ("tenant", tenant()),
            ],
        ),
        IsolateTenant("Notebook"),
        IsolateTenant("Note", references={"notebook": "notes.Notebook"}),
    ]
