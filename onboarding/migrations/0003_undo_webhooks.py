from django.db import migrations

from onboarding.sql import run_file

# As onboarding/sql/undo.sql made it.
BEFORE = """
create or replace function slipway.undo_tenant() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.require_undoable();
begin
    delete from public.tenants_apikey where tenant_id = mine;
    delete from public.webhooks_event where tenant_id = mine;
    delete from public.tenants_session where tenant_id = mine;
    delete from public.tenants_membership where tenant_id = mine;
    delete from public.onboarding_workspace where tenant_id = mine;
    delete from public.onboarding_activityday where tenant_id = mine;
    delete from public.onboarding_welcomemail where tenant_id = mine;
    delete from public.onboarding_provisionedresource where tenant_id = mine;
    delete from public.tenants_domain where tenant_id = mine;
    delete from public.tenants_tenant where id = mine;
end
$$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("onboarding", "0002_held"),
        ("webhooks", "0002_endpoints_and_deliveries"),
        ("jobs", "0004_lane_health"),
    ]

    operations = [run_file("undo_tenant.sql", undo=BEFORE)]
