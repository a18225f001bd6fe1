from django.db import migrations, models


class Migration(migrations.Migration):
    """When a lane's breaker opened, and which pause is the breaker's own."""

    dependencies = [
        ("jobs", "0004_lane_health"),
    ]

    operations = [
        migrations.AddField("lane", "opened_at", models.DateTimeField(null=True)),
        migrations.AddField("lane", "opened_until", models.DateTimeField(null=True)),
    ]
