-- As tenants/sql/entered.sql made it.
create or replace function slipway.enter_tenant(path text, context text) returns void
language plpgsql volatile security definer
as $$
declare
    good boolean := context <> '' and slipway.context_fault(context) is null;
    until bigint := 0;
begin
    if not pg_catalog.pg_is_in_recovery() then
        -- Not for longer than a quarter of an hour: a key that is taken away is then missed.
        if good then
            until := least(pg_catalog.split_part(context, '.', 2)::bigint,
                           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint + 900);
            context := '+' || context;
        end if;
        perform pg_catalog.setval('slipway.entered_until', until),
                pg_catalog.setval('slipway.entered_tenant', case when good
                    then pg_catalog.ltrim(pg_catalog.split_part(context, '.', 1), '+')::bigint
                    else 0 end);
    end if;
    perform pg_catalog.set_config('search_path', path, false),
            pg_catalog.set_config('slipway.tenant', context, false);
end
$$;

drop function slipway.home_of(bigint);
