-- Where a tenant lives is asked where its context is entered: whoever remembers its former home, a
-- cache, a claim or a job of minutes, is led to the present one. docs/decisions/0022 argues it.

-- The search_path of a tenant; null while it has no row.
create function slipway.home_of(tenant bigint) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select case t.home when 'dedicated' then quote_ident(t.schema_name) else 'pool' end || ', public'
    from public.tenants_tenant t where t.id = tenant
$$;
revoke all on function slipway.home_of(bigint) from public;
-- enter_tenant() asks as the owner; nobody else needs to.

-- As tenants/sql/entered.sql made it, but for `path`: whoever wants a tenant's home gets the one
-- that it has.
create or replace function slipway.enter_tenant(path text, context text) returns void
language plpgsql volatile security definer
as $$
declare
    good boolean := context <> '' and slipway.context_fault(context) is null;
    tenant bigint := 0;
    until bigint := 0;
begin
    if good then
        tenant := pg_catalog.split_part(context, '.', 1)::bigint;
        if path <> 'public' then
            path := coalesce(slipway.home_of(tenant), path);
        end if;
    end if;
    if not pg_catalog.pg_is_in_recovery() then
        -- Not for longer than a quarter of an hour: a key that is taken away is then missed.
        if good then
            until := least(pg_catalog.split_part(context, '.', 2)::bigint,
                           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint + 900);
            context := '+' || context;
        end if;
        perform pg_catalog.setval('slipway.entered_until', until),
                pg_catalog.setval('slipway.entered_tenant', tenant);
    end if;
    perform pg_catalog.set_config('search_path', path, false),
            pg_catalog.set_config('slipway.tenant', context, false);
end
$$;
