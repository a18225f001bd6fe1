-- As it was in platform.sql.
drop function slipway.platform_close_tenant(text, bytea, bigint, double precision);
create or replace function slipway.platform_move_tenant(
    key text, proof bytea, wanted bigint, source text, target text
)
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    moved integer;
begin
    perform slipway.require_platform_key(key, proof, 'tenants:write');
    if (source, target) not in (('active', 'suspended'), ('suspended', 'active')) then
        raise exception 'The platform cannot move a tenant from % to %.', source, target
            using errcode = 'insufficient_privilege';
    end if;
    update public.tenants_tenant
    set status = target, suspended_at = case target when 'suspended' then now() end
    where id = wanted and status = source;
    get diagnostics moved = row_count;
    return moved;
end
$$;
