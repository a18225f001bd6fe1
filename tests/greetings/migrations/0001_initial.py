from django.db import migrations, models

import tenants.context
from tenants.rls import IsolateTenant


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Greeting",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                (
                    "tenant_id",
                    models.BigIntegerField(
                        default=tenants.context.current_tenant_id, editable=False
                    ),
                ),
                ("text", models.TextField()),
            ],
        ),
        IsolateTenant("Greeting"),
    ]
