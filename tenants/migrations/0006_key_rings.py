from django.db import migrations

from tenants.sql import run_file


class Migration(migrations.Migration):
    """The operator sees which keys of the tenant context are accepted."""

    dependencies = [("tenants", "0005_console_lists")]

    operations = [run_file("key_rings.sql", undo="drop function slipway.context_keys()")]
