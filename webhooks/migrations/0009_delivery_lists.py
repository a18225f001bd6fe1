from django.db import migrations, models
from django.db.models import F, OrderBy, Q

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)
SET_ASIDE = ("held", "dead_letter", "discarding", "discarded", "cancelled", "unknown")


class Migration(migrations.Migration):
    """Lists of deliveries that no neighbour's rows are in the way of."""

    dependencies = [("webhooks", "0008_endpoints_discard")]

    operations = [
        migrations.RemoveIndex(model_name="delivery", name="delivery_of_endpoint"),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(F("tenant"), F("endpoint"), NEWEST, name="delivery_of_endpoint"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(F("tenant"), NEWEST, name="delivery_listed"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                F("tenant"),
                F("state"),
                NEWEST,
                name="delivery_set_aside",
                condition=Q(state__in=SET_ASIDE),
            ),
        ),
    ]
