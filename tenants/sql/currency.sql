-- Sets what the platform says of a tenant's currency, '' for nothing; returns what it was.
create function slipway.platform_set_currency(
    key text, proof bytea, wanted bigint, said text
)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    former text;
begin
    perform slipway.require_platform_key(key, proof, 'tenants:write');
    select t.currency into former from public.tenants_tenant t where t.id = wanted for update;
    update public.tenants_tenant t set currency = said where t.id = wanted;
    return former;
end
$$;

revoke all on function slipway.platform_set_currency(text, bytea, bigint, text) from public;
grant execute on function
    slipway.platform_set_currency(text, bytea, bigint, text)
to slipway_app, slipway_operator;
