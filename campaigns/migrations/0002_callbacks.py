from django.db import migrations

from campaigns.sql import run_file


class Migration(migrations.Migration):
    """A callback names an account; its tenant is found by that."""

    dependencies = [("campaigns", "0001_initial")]

    operations = [
        run_file("callbacks.sql", undo="drop function slipway.account_home(uuid)"),
    ]
