-- Whose account a callback names, so that its tenant can be entered. The app role cannot list
-- accounts: it must know the id. What is left of a closed tenant is nobody's any more; a suspended
-- one goes on learning what became of its messages.

create function slipway.account_home(account uuid)
returns table (id bigint, schema_name text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select t.id, case when t.home = 'dedicated' then t.schema_name else 'pool' end
    from public.campaigns_provideraccount a join public.tenants_tenant t on t.id = a.tenant_id
    where a.id = account and a.deleted_at is null and t.status in ('active', 'suspended')
$$;

revoke all on function slipway.account_home(uuid) from public;
grant execute on function slipway.account_home(uuid) to slipway_app, slipway_operator;
