from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """Indexes for the console's lists. None stops a writer while it is made."""

    atomic = False
    dependencies = [("campaigns", "0002_callbacks")]

    operations = [
        AddIndexConcurrently(
            model_name="message",
            index=models.Index(
                F("state"),
                NEWEST,
                name="message_standing",
                condition=~Q(state__in=["succeeded", "processing"]),
            ),
        ),
        AddIndexConcurrently(
            model_name="campaign",
            index=models.Index(F("state"), NEWEST, name="campaign_standing"),
        ),
    ]
