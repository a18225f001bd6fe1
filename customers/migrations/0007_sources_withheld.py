from django.db import migrations

# What statistics need of a source. Its address and headers, encrypted though those are, lead into a
# tenant's own system. A later column is not read either, until a migration grants it.
GRANT = (
    "grant select (id, tenant_id, name, items_path, cursor_path, cursor_parameter, size_parameter,"
    " page_size, fields, every, series, created_at, updated_at)"
    " on customers_source to slipway_analytics"
)
REVOKE = "revoke select on customers_source from slipway_analytics"  # Of columns, too.


class Migration(migrations.Migration):
    """What the analytics login reads of sources, in the pool and in each dedicated schema."""

    dependencies = [
        ("customers", "0006_erasure"),
    ]

    operations = [
        migrations.RunSQL(
            [REVOKE, GRANT],
            [REVOKE, "grant select on customers_source to slipway_analytics"],
        ),
    ]
