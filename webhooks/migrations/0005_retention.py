from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0004_endpoints_change")]

    operations = [
        migrations.AddIndex(
            model_name="event",
            index=models.Index(
                condition=models.Q(("kept_payload__isnull", False)),
                fields=["created_at"],
                name="event_kept",
            ),
        ),
    ]
