from django.db import migrations

from webhooks.sql import run_file


class Migration(migrations.Migration):
    """Telling the platform locks its endpoints as webhooks.fan_out does a tenant's."""

    dependencies = [("webhooks", "0011_event_keys")]

    operations = [run_file("platform_locks.sql", undo="")]
