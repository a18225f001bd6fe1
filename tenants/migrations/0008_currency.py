from django.db import migrations, models

from tenants.sql import run_file

# For a while it stood among the limits.
MOVE = """
update tenants_tenant set currency = limits->>'currency', limits = limits - 'currency'
where limits->>'currency' ~ '^[A-Z]{3}$'
"""
MOVE_BACK = """
update tenants_tenant set limits = limits || jsonb_build_object('currency', currency)
where currency <> ''
"""


class Migration(migrations.Migration):
    """What the platform says of the currency of a tenant's amounts, which had stood in `limits`."""

    dependencies = [("tenants", "0007_life")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="currency",
            field=models.CharField(blank=True, db_default="", default="", max_length=3),
        ),
        migrations.RunSQL(MOVE, MOVE_BACK),
        run_file(
            "currency.sql",
            undo="drop function slipway.platform_set_currency(text, bytea, bigint, text)",
        ),
    ]
