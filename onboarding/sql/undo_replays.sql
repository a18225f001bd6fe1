-- The tenant itself, with what only makes sense beside it: what was to be done again for it, too.
create or replace function slipway.undo_tenant() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.require_undoable();
begin
    delete from public.tenants_apikey where tenant_id = mine;
    -- A replay first: one whose chunk runs is waited for, and its next one finds nothing to do.
    delete from public.jobs_replay where tenant_id = mine;
    -- Then works: one that is being delivered is waited for, and its settling finds nothing.
    delete from public.webhooks_delivery where tenant_id = mine;
    delete from public.webhooks_payload where tenant_id = mine;
    delete from public.webhooks_event where tenant_id = mine;
    delete from public.webhooks_endpoint where tenant_id = mine;
    delete from public.jobs_lane where tenant_id = mine;
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
