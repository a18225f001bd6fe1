from django.db import migrations, models

DROP = "alter table webhooks_delivery drop constraint webhooks_delivery_event_same_tenant"
AGAIN = """
alter table webhooks_event drop constraint webhooks_event_tenant_key;
alter table webhooks_event add constraint webhooks_event_tenant_key unique (tenant_id, id)
"""
ADD = """
alter table webhooks_delivery add constraint webhooks_delivery_event_same_tenant
foreign key (tenant_id, event_id) references webhooks_event (tenant_id, id)
on delete cascade deferrable initially deferred
"""


class Migration(migrations.Migration):
    """A delivery's event is looked up by the key that names it, however few events there are.

    As long as a table looks empty all its indexes cost the same, and the newest is taken: it was
    one that reads all of a tenant's events for each delivery, and connections remember their plan.
    """

    dependencies = [("webhooks", "0010_payload_day")]

    operations = [
        migrations.RemoveConstraint("event", "event_idempotency"),
        migrations.AddConstraint(
            "event",
            models.UniqueConstraint(
                condition=models.Q(("idempotency_key__isnull", False)),
                fields=("tenant", "idempotency_key"),
                name="event_idempotency",
            ),
        ),
        migrations.RunSQL(DROP, migrations.RunSQL.noop),
        migrations.RunSQL(AGAIN, migrations.RunSQL.noop),
        migrations.RunSQL(ADD, migrations.RunSQL.noop),
    ]
