-- A tenant's change to another plan, for whoever shows a platform key, and for operators.

-- Writes the change down; between plans of one home that is all of it. False when the tenant is not
-- what `source` says, is not in use, or is being moved already.
create function slipway.change_plan(
    move uuid, wanted bigint, source text, source_home text, target text, target_home text,
    by text, why text
)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    same boolean := source_home = target_home;
begin
    perform from public.tenants_tenant t
    where t.id = wanted and t.plan = source and t.home = source_home
      and t.status in ('active', 'suspended')
    for update;
    if not found or exists (
        select from public.lifecycle_planmove m
        where m.tenant_id = wanted and m.finished_at is null
    ) then
        return false;
    end if;
    insert into public.lifecycle_planmove (
        id, tenant_id, plan_before, plan_after, home_before, home_after, actor, reason,
        phase, started_at, moved_at, finished_at
    ) values (
        move, wanted, source, target, source_home, target_home, by, why,
        case when same then 'done' else 'prepare' end,
        case when same then clock_timestamp() end, case when same then clock_timestamp() end,
        case when same then clock_timestamp() end
    );
    if same then
        update public.tenants_tenant set plan = target where id = wanted;
    end if;
    return true;
end
$$;

create function slipway.platform_change_plan(
    key text, proof bytea, move uuid, wanted bigint, source text, source_home text,
    target text, target_home text, why text
)
returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, 'tenants:write');
    return slipway.change_plan(move, wanted, source, source_home, target, target_home,
                               'platform_key:' || key, why);
end
$$;

revoke all on function
    slipway.change_plan(uuid, bigint, text, text, text, text, text, text),
    slipway.platform_change_plan(text, bytea, uuid, bigint, text, text, text, text, text)
from public;
grant execute on function slipway.change_plan(uuid, bigint, text, text, text, text, text, text)
to slipway_operator;
grant execute on function
    slipway.platform_change_plan(text, bytea, uuid, bigint, text, text, text, text, text)
to slipway_app, slipway_operator;
