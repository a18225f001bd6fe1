from django.db import migrations

from tenants.sql import HERE, run_file


class Migration(migrations.Migration):
    """The context is checked once where it is entered, and not by each statement."""

    dependencies = [("tenants", "0003_limits")]

    operations = [
        run_file("entered.sql", undo=(HERE / "entered_undo.sql").read_text(encoding="utf-8")),
    ]
