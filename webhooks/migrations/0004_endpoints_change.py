from django.db import migrations, models
from django.db.models import Q

from tenants.roles import APP

# An endpoint that changes takes its unfinished deliveries along (webhooks.moving), and one that is
# enabled again begins with a clean slate (webhooks.lanes). RLS keeps both to the tenant's own rows.
MOVED = "update (host, seq) on webhooks_delivery"
FORGIVEN = (
    "update (failures, trips, failing_since, failed_at, opened_at, opened_until) on jobs_lane"
)


class Migration(migrations.Migration):
    dependencies = [
        ("webhooks", "0003_catalogue_and_platform"),
        ("jobs", "0005_lane_opened"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=Q(("state__in", ("scheduled", "failed"))),
                fields=["tenant", "lane", "id"],
                name="delivery_retrying",
            ),
        ),
        migrations.AddIndex(
            model_name="endpoint",
            index=models.Index(
                condition=Q(("disabled_at__isnull", False), ("deleted_at__isnull", True)),
                fields=["tenant", "id"],
                name="endpoint_disabled",
            ),
        ),
        migrations.RunSQL(f"grant {MOVED} to {APP}", f"revoke {MOVED} from {APP}"),
        migrations.RunSQL(f"grant {FORGIVEN} to {APP}", f"revoke {FORGIVEN} from {APP}"),
    ]
