from django.db import migrations, models
from django.db.models import Q

from tenants.sql import HERE, run_file


class Migration(migrations.Migration):
    """How a tenant ends: its days of grace, and when it was purged."""

    dependencies = [("tenants", "0006_key_rings")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="closes_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="tenant",
            name="closed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddIndex(
            model_name="tenant",
            index=models.Index(
                condition=Q(
                    ("status", "suspended"),
                    Q(("closes_at__isnull", False), ("status", "closing")),
                    _connector="OR",
                ),
                fields=["id"],
                name="tenant_held",
            ),
        ),
        run_file("life.sql", undo=(HERE / "life_undo.sql").read_text(encoding="utf-8")),
        run_file("vouched.sql", undo="drop function slipway.record_for_operator"),
    ]
