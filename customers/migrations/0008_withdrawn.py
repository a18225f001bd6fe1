from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class AddIndexLive(AddIndexConcurrently):
    """Stops no writer while it is made, where there may be one.

    A schema that was made just now has no rows: its index takes no time, need not wait for others'
    long transactions, and can be made in one transaction with the schema (tenants.blueprint).
    """

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        table = to_state.apps.get_model(app_label, self.model_name)._meta.db_table
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select pg_relation_size(to_regclass(%s))", [table])
            (size,) = cursor.fetchone()
        kind = super() if size else super(AddIndexConcurrently, self)
        kind.database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    """Who withdrew: found without a look at everybody, for each chunk of an audience."""

    atomic = False
    dependencies = [("customers", "0007_sources_withheld")]

    operations = [
        AddIndexLive(
            model_name="customer",
            index=models.Index(
                "tenant_id",
                "phone",
                name="customer_withdrawn",
                condition=Q(consent="withdrawn") & ~Q(phone=""),
            ),
        ),
    ]
