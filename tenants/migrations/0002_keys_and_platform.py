from django.db import migrations

from tenants.sql import run_file


class Migration(migrations.Migration):
    """How keys are found, and what a platform key's proof opens."""

    dependencies = [("tenants", "0001_initial")]

    operations = [
        run_file(
            "keys.sql",
            undo="drop function slipway.note_key_use(text[]);"
            " drop function slipway.find_platform_key(text, bytea);"
            " drop function slipway.find_api_key(text, bytea);",
        ),
        run_file(
            "platform.sql",
            undo="drop function slipway.platform_audit(text, bytea, bigint, uuid, integer);"
            " drop function slipway.platform_domains(text, bytea, bigint);"
            " drop function slipway.platform_move_tenant(text, bytea, bigint, text, text);"
            " drop function slipway.platform_tenants"
            "(text, bytea, bigint, integer, text, text, text);"
            " drop function slipway.platform_tenant(text, bytea, uuid, text);"
            " drop function slipway.require_platform_key(text, bytea, text);",
        ),
    ]
