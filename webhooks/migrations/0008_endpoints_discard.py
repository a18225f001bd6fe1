from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """What an endpoint's owner gave up is remembered until all of it is cancelled."""

    dependencies = [
        ("webhooks", "0007_forgiven"),
    ]

    operations = [
        migrations.AddField("endpoint", "discarded_until", models.UUIDField(null=True)),
        migrations.AddIndex(
            model_name="endpoint",
            index=models.Index(
                condition=Q(("discarded_until__isnull", False), ("deleted_at__isnull", True)),
                fields=["tenant", "id"],
                name="endpoint_discarding",
            ),
        ),
    ]
