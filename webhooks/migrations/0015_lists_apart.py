from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """The lists' index, out of the claim's reach (docs/decisions/0027). It goes first: it harms."""

    atomic = False
    dependencies = [("webhooks", "0014_console_lists")]

    operations = [
        RemoveIndexConcurrently(model_name="delivery", name="delivery_standing"),
        AddIndexConcurrently(
            model_name="delivery",
            index=models.Index(
                F("state"),
                NEWEST,
                name="delivery_standing",
                condition=~Q(state__in=["succeeded", "processing"]) & Q(attempts__gte=0),
            ),
        ),
    ]
