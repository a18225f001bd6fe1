-- The end of a tenant, for whoever shows a platform key: closing it, with days of grace, and
-- reopening it within them.

-- Moves a tenant from one status to another, and counts: 0 when it stands elsewhere. What is closing
-- is reopened while its grace lasts, and not when it is an undone sign-up's, which has none; what was
-- suspended when it was closed is suspended again.
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
    if (source, target) not in
        (('active', 'suspended'), ('suspended', 'active'), ('closing', 'active'),
         ('closing', 'suspended'))
    then
        raise exception 'The platform cannot move a tenant from % to %.', source, target
            using errcode = 'insufficient_privilege';
    end if;
    update public.tenants_tenant
    set status = target, closes_at = null,
        suspended_at = case
            when source = 'closing' then suspended_at when target = 'suspended' then now()
        end
    where id = wanted and status = source
      and (source <> 'closing' or (
          closes_at > clock_timestamp()
          and (suspended_at is not null) = (target = 'suspended')));
    get diagnostics moved = row_count;
    return moved;
end
$$;

-- Closes a tenant that is active or suspended, and says when its grace ends; null when it stands
-- elsewhere. suspended_at stays, and says to where it would be reopened.
create function slipway.platform_close_tenant(
    key text, proof bytea, wanted bigint, grace double precision
)
returns timestamptz
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    ends_at timestamptz;
begin
    perform slipway.require_platform_key(key, proof, 'tenants:write');
    if not grace >= 86400 then
        raise exception 'The platform closes a tenant with a day of grace at least.'
            using errcode = 'insufficient_privilege';
    end if;
    update public.tenants_tenant
    set status = 'closing', closes_at = clock_timestamp() + make_interval(secs => grace)
    where id = wanted and status in ('active', 'suspended')
    returning closes_at into ends_at;
    return ends_at;
end
$$;

revoke all on function
    slipway.platform_close_tenant(text, bytea, bigint, double precision)
from public;
grant execute on function
    slipway.platform_close_tenant(text, bytea, bigint, double precision)
to slipway_app, slipway_operator;
