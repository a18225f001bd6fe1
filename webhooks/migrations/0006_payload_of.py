from django.db import migrations

from tenants.roles import APP, OPERATOR

# In a statement of its own the partition is found when it runs. Joined, all of them are planned for
# with every claim, which takes several times as long as the rest of it; so the plan is kept, too.
PAYLOAD_OF = """
create function slipway.payload_of(tenant bigint, event uuid, made_at timestamptz) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
begin
  return (select p.data from public.webhooks_payload p
          where p.tenant_id = tenant and p.event_id = event and p.created_at = made_at);
end
$$
"""
NAME = "slipway.payload_of(bigint, uuid, timestamptz)"


class Migration(migrations.Migration):
    """What an event says, for the claim of its deliveries (Delivery.carried)."""

    dependencies = [("webhooks", "0005_retention")]

    operations = [
        migrations.RunSQL(PAYLOAD_OF, f"drop function {NAME}"),
        migrations.RunSQL(f"revoke all on function {NAME} from public", migrations.RunSQL.noop),
        migrations.RunSQL(
            f"grant execute on function {NAME} to {APP}, {OPERATOR}", migrations.RunSQL.noop
        ),
    ]
