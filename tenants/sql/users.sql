-- People: the app role sees the members of the current tenant, never staff, and makes no staff.
--
-- It may make a new person, and say when one signed in. Who belongs to a tenant, and who has which
-- password, it changes by the functions below alone: SQL injected into one tenant's requests must
-- not make another tenant's owner a member here, and then give them a new password.

alter table tenants_user enable row level security;
alter table tenants_user force row level security;
create policy members on tenants_user for select to slipway_app
    using (not is_staff and not is_superuser and exists (
        select from tenants_membership m
        where m.user_id = tenants_user.id and m.tenant_id = (select slipway.current_tenant_id())));
create policy members_sign_in on tenants_user for update to slipway_app
    using (not is_staff and not is_superuser and exists (
        select from tenants_membership m
        where m.user_id = tenants_user.id and m.tenant_id = (select slipway.current_tenant_id())))
    with check (not is_staff and not is_superuser);
create policy people_join on tenants_user for insert to slipway_app
    with check (not is_staff and not is_superuser and activated_at is null
        and (select slipway.current_tenant_id()) is not null);
grant select, insert on tenants_user to slipway_app;
grant update (last_login) on tenants_user to slipway_app;

-- Whether an address has a user already; the caller must know the whole address.
create function slipway.user_by_email(address text) returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select id from public.tenants_user
    where lower(email) = lower(address) and not is_staff and not is_superuser
$$;

-- The owner of a tenant that is being made; later ones join by other ways. Says whether it did.
create function slipway.add_owner(membership uuid, person uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
begin
    perform from public.tenants_tenant where id = mine and status = 'provisioning' for update;
    if not found or exists (select from public.tenants_membership where tenant_id = mine) then
        return false;
    end if;
    insert into public.tenants_membership (id, tenant_id, user_id, role, created_at)
    select membership, mine, u.id, 'owner', now() from public.tenants_user u
    where u.id = person and not u.is_staff and not u.is_superuser;
    return found;
end
$$;

-- The person takes up the place that waits for them here. Says whether one did. The lock is the one
-- that slipway.require_undoable() takes: a tenant is joined or undone, never both.
create function slipway.join_tenant(person uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
begin
    perform from public.tenants_tenant
    where id = mine and status in ('provisioning', 'active') for update;
    if not found then
        return false;
    end if;
    update public.tenants_membership set accepted_at = now()
    where tenant_id = mine and user_id = person and accepted_at is null;
    return found;
end
$$;

-- The first password of a person who never had one, and their place here. Says whether it was so.
create function slipway.activate_user(person uuid, hash text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not slipway.join_tenant(person) then
        return false;
    end if;
    update public.tenants_user set password = hash, activated_at = now(), is_active = true
    where id = person and activated_at is null and not is_staff and not is_superuser;
    if not found then
        raise exception 'This person has a password already.' using errcode = 'insufficient_privilege';
    end if;
    return true;
end
$$;

revoke all on function
    slipway.user_by_email(text), slipway.add_owner(uuid, uuid), slipway.join_tenant(uuid),
    slipway.activate_user(uuid, text)
from public;
grant execute on function
    slipway.user_by_email(text), slipway.add_owner(uuid, uuid), slipway.join_tenant(uuid),
    slipway.activate_user(uuid, text)
to slipway_app, slipway_operator;
