-- An owner who cannot come.

-- The owner's place in the current tenant, for an address that is an operator's: a membership that
-- waits like any other, and that nobody can take up, since operators are members of no tenant. A
-- refusal would tell a stranger whose addresses are operators'. Says whose place it is, if anybody's.
create function slipway.keep_place(membership uuid, address text) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
    person uuid;
begin
    perform from public.tenants_tenant where id = mine and status = 'provisioning' for update;
    if not found or exists (select from public.tenants_membership where tenant_id = mine) then
        return null;
    end if;
    insert into public.tenants_membership (id, tenant_id, user_id, role, created_at)
    select membership, mine, u.id, 'owner', now() from public.tenants_user u
    where lower(u.email) = lower(address) and (u.is_staff or u.is_superuser)
    returning user_id into person;
    return person;
end
$$;

revoke all on function slipway.keep_place(uuid, text) from public;
grant execute on function slipway.keep_place(uuid, text) to slipway_app, slipway_operator;
