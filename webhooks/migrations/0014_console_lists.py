from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """Indexes for the console's lists. None stops a writer while it is made."""

    atomic = False
    dependencies = [("webhooks", "0013_event_lists")]

    operations = [
        migrations.AlterModelOptions(
            name="delivery", options={"verbose_name_plural": "deliveries"}
        ),
        AddIndexConcurrently(
            model_name="delivery",
            index=models.Index(
                F("state"),
                NEWEST,
                name="delivery_standing",
                condition=~Q(state__in=["succeeded", "processing"]),
            ),
        ),
        AddIndexConcurrently(
            model_name="endpoint", index=models.Index(F("host"), NEWEST, name="endpoint_host")
        ),
        AddIndexConcurrently(
            model_name="endpoint",
            index=models.Index(
                F("disabled_reason"),
                NEWEST,
                name="endpoint_disabled_listed",
                condition=~Q(disabled_reason=""),
            ),
        ),
    ]
