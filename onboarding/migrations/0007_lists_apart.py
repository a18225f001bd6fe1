from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

LATEST = OrderBy(F("created_at"), descending=True, nulls_last=True)
NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """The lists' index, out of the claim's reach (docs/decisions/0027). It goes first: it harms."""

    atomic = False
    dependencies = [("onboarding", "0006_console_lists")]

    operations = [
        RemoveIndexConcurrently(model_name="pendingonboarding", name="onboarding_standing"),
        AddIndexConcurrently(
            model_name="pendingonboarding",
            index=models.Index(
                F("state"),
                LATEST,
                NEWEST,
                name="onboarding_standing",
                condition=~Q(state__in=["succeeded", "processing"]) & Q(attempts__gte=0),
            ),
        ),
    ]
