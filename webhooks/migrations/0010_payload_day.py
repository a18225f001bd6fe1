from django.db import migrations

from webhooks.sql import HERE, run_file

TELL = "slipway.tell_platform(uuid[], text[], jsonb[], text, integer)"
DAY = "slipway.has_partition(regclass, timestamptz)"


class Migration(migrations.Migration):
    """Events are published on a day that has no partition of payloads, too."""

    dependencies = [("webhooks", "0009_delivery_lists")]

    operations = [
        run_file(
            "payload_day.sql",
            undo=f"drop function {TELL}; {(HERE / 'platform.sql').read_text(encoding='utf-8')};"
            f" drop function {DAY};",
        ),
    ]
