from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """Indexes for the console's lists. None stops a writer while it is made."""

    atomic = False
    dependencies = [("tenants", "0004_entered_context")]

    operations = [
        migrations.AlterModelOptions(
            name="auditentry", options={"verbose_name_plural": "audit entries"}
        ),
        migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"}),
        AddIndexConcurrently(
            model_name="auditentry",
            index=models.Index(F("action"), NEWEST, name="audit_action"),
        ),
        AddIndexConcurrently(
            model_name="auditentry", index=models.Index(F("actor"), NEWEST, name="audit_actor")
        ),
    ]
