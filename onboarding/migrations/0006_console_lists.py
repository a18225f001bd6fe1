from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

LATEST = OrderBy(F("created_at"), descending=True, nulls_last=True)
NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)


class Migration(migrations.Migration):
    """Indexes for the console's lists. None stops a writer while it is made."""

    atomic = False
    dependencies = [("onboarding", "0005_forgiven")]

    operations = [
        migrations.AlterModelOptions(name="pendingonboarding", options={"verbose_name": "sign-up"}),
        AddIndexConcurrently(
            model_name="pendingonboarding",
            index=models.Index(fields=["created_at", "id"], name="onboarding_newest"),
        ),
        AddIndexConcurrently(
            model_name="pendingonboarding",
            index=models.Index(
                fields=["finished_at"],
                name="onboarding_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ),
        AddIndexConcurrently(
            model_name="pendingonboarding",
            index=models.Index(
                F("state"),
                LATEST,
                NEWEST,
                name="onboarding_standing",
                condition=~Q(state__in=["succeeded", "processing"]),
            ),
        ),
    ]
