-- Undoing a sign-up: the app role may delete no tenant, domain or user by itself. These functions
-- delete the current tenant's, and only while it never was anybody's: its owner never came, and no
-- key of it was used.

-- Raises unless the current tenant may be undone; returns its number.
create function slipway.require_undoable() returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
begin
    if mine is null then
        raise exception 'No tenant is set.' using errcode = 'insufficient_privilege';
    end if;
    -- The lock first, the look in a statement of its own: whoever joined before us is then seen.
    perform from public.tenants_tenant where id = mine for update;
    if exists (
        select from public.tenants_tenant t
        where t.id = mine and (
            exists (select from public.tenants_membership m join public.tenants_user u on u.id = m.user_id
                    where m.tenant_id = mine and m.accepted_at is not null
                      and u.activated_at is not null)
            or exists (select from public.tenants_apikey k
                       where k.tenant_id = mine and k.last_used_at is not null))
    ) then
        raise exception 'This tenant is in use; it is closed, not undone.'
            using errcode = 'insufficient_privilege';
    end if;
    return mine;
end
$$;

-- Comes before anything is destroyed: from here on nobody can join the tenant (activation asks for
-- the same lock and an open status), and so nothing that the later steps find in use was undone.
-- Says whether it may be undone.
create function slipway.begin_undo() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint;
begin
    mine := slipway.require_undoable();
    update public.tenants_tenant set status = 'closing'
    where id = mine and status not in ('closing', 'closed');
    return true;
exception when insufficient_privilege then
    return false;
end
$$;

-- A sign-up whose undoing failed is replayed: what was being closed is being made again.
create function slipway.resume_sign_up() returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    update public.tenants_tenant t set status = 'provisioning'
    where t.id = slipway.current_tenant_id() and t.status = 'closing'
      and exists (select from public.onboarding_pendingonboarding o
                  where o.tenant_id = t.id and o.state = 'processing')
$$;

-- Jobs that wait for the current tenant are withdrawn, dead ones with their letters; says which, and
-- what they were. One that runs just now finds nobody and ends by itself. Works are locked before
-- the tenant, in the order of their ids, as everywhere.
create function slipway.cancel_jobs() returns table (job uuid, was text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
begin
    if mine is null or exists (
        select from public.tenants_tenant t where t.id = mine and t.status <> 'closing'
    ) then
        raise exception 'Only jobs of a tenant that is being undone.'
            using errcode = 'insufficient_privilege';
    end if;
    return query
        with waiting as (
            select j.id, j.state from public.jobs_job j
            where j.tenant_id = mine
              and j.state in ('scheduled', 'pending', 'failed', 'dead_letter', 'unknown')
            order by j.id for update
        )
        update public.jobs_job j set state = 'cancelled', finished_at = now()
        from waiting where j.id = waiting.id
        returning j.id, waiting.state::text;
    update public.jobs_deadletter d
    set resolved_at = now(), resolved_by = 'system:onboarding', resolution = 'cancelled',
        why = 'Its tenant was undone.'
    where d.tenant_id = mine and d.queue = 'jobs' and d.resolved_at is null;
end
$$;

-- The owner's part in the tenant; and the person too, if `person` was made by this sign-up, never
-- activated the account, and has no part in another tenant.
create function slipway.undo_owner(person uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.require_undoable();
begin
    delete from public.tenants_session where tenant_id = mine;
    delete from public.tenants_membership where tenant_id = mine;
    delete from public.tenants_user u
    where u.id = person and u.activated_at is null and not u.is_staff and not u.is_superuser
      and not exists (select from public.tenants_membership m where m.user_id = u.id);
end
$$;

-- The tenant itself, with what only makes sense beside it.
create function slipway.undo_tenant() returns void
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

-- A sign-up whose tenant became ready and was undone since, because its owner never came. The
-- engine's states know no way back from `succeeded`, and the address of a stranger is not ours to
-- keep: the row goes, and with it the hold on the slug.
create function slipway.forget_sign_up(request uuid) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    delete from public.onboarding_pendingonboarding o
    where o.id = request and o.tenant_id = slipway.current_tenant_id() and o.state = 'succeeded'
      and not exists (select from public.tenants_tenant t where t.id = o.tenant_id)
$$;

revoke all on function
    slipway.require_undoable(), slipway.begin_undo(), slipway.resume_sign_up(),
    slipway.cancel_jobs(), slipway.undo_owner(uuid), slipway.undo_tenant(),
    slipway.forget_sign_up(uuid)
from public;
grant execute on function
    slipway.require_undoable(), slipway.begin_undo(), slipway.resume_sign_up(),
    slipway.cancel_jobs(), slipway.undo_owner(uuid), slipway.undo_tenant(),
    slipway.forget_sign_up(uuid)
to slipway_app, slipway_operator;
