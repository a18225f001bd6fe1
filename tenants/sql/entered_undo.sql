-- As context.sql made them.

create or replace function slipway.current_tenant_id() returns bigint
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    context text := current_setting('slipway.tenant', true);
begin
    if context is null or context = '' then
        return null;
    end if;
    return slipway.check_context(ltrim(context, '+'));
end
$$;

create or replace function slipway.enter_tenant(path text, context text) returns void
language plpgsql volatile security definer
as $$
begin
    perform pg_catalog.set_config('search_path', path, false),
            pg_catalog.set_config('slipway.tenant', context, false);
end
$$;

drop sequence slipway.entered_tenant, slipway.entered_until;
