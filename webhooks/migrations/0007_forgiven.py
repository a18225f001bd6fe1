from django.db import migrations, models

from tenants.roles import APP

# Whoever replays or releases forgives (jobs.resolving, jobs.shutting).
FORGIVES = "update (forgiven, throttled_since) on webhooks_delivery"
# Those that were replayed or lost before: what they have beyond the tries of their schedule.
CATCH_UP = """
update webhooks_delivery d set forgiven = d.max_attempts - coalesce(cardinality(w.schedule) + 1, 10)
from webhooks_endpoint w
where w.tenant_id = d.tenant_id and w.id = d.endpoint_id
  and d.attempts > 0 and d.state not in ('succeeded', 'discarded', 'cancelled')
  and d.max_attempts > coalesce(cardinality(w.schedule) + 1, 10)
"""


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0006_payload_of")]

    operations = [
        migrations.AddField(
            model_name="delivery",
            name="forgiven",
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="delivery",
            name="throttled_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.RunSQL(f"grant {FORGIVES} to {APP}", f"revoke {FORGIVES} from {APP}"),
        migrations.RunSQL(CATCH_UP, migrations.RunSQL.noop),
    ]
