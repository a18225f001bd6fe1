from django.db import migrations

from webhooks.sql import run_file


class Migration(migrations.Migration):
    dependencies = [
        ("webhooks", "0002_endpoints_and_deliveries"),
        ("tenants", "0002_keys_and_platform"),
    ]

    operations = [
        run_file(
            "catalogue.sql",
            undo="drop function slipway.platform_archive_event_type(text, bytea, text);"
            " drop function slipway.platform_put_event_type(text, bytea, text, text, jsonb);",
        ),
        run_file(
            "platform.sql",
            undo="drop function slipway.tell_platform(uuid[], text[], jsonb[], text, integer);",
        ),
    ]
