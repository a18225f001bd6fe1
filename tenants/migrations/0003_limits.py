from django.db import migrations, models

from tenants.sql import HERE, run_file


class Migration(migrations.Migration):
    """What a tenant may have and do where its plan says something else."""

    dependencies = [("tenants", "0002_keys_and_platform")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="limits",
            field=models.JSONField(blank=True, default=dict),
        ),
        run_file("limits.sql", undo=(HERE / "limits_undo.sql").read_text(encoding="utf-8")),
    ]
