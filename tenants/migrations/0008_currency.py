from django.db import migrations, models

from tenants.sql import run_file


class Migration(migrations.Migration):
    """What the platform says of the currency of a tenant's amounts. No row is written anew."""

    dependencies = [("tenants", "0007_life")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="currency",
            field=models.CharField(blank=True, db_default="", default="", max_length=3),
        ),
        run_file(
            "currency.sql",
            undo="drop function slipway.platform_set_currency(text, bytea, bigint, text)",
        ),
    ]
