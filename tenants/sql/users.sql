-- People: the app role sees the members of the current tenant, never staff, and makes no staff.

alter table tenants_user enable row level security;
alter table tenants_user force row level security;
create policy members on tenants_user for select to slipway_app
    using (not is_staff and not is_superuser and exists (
        select from tenants_membership m
        where m.user_id = tenants_user.id and m.tenant_id = (select slipway.current_tenant_id())));
create policy members_change on tenants_user for update to slipway_app
    using (not is_staff and not is_superuser and exists (
        select from tenants_membership m
        where m.user_id = tenants_user.id and m.tenant_id = (select slipway.current_tenant_id())))
    with check (not is_staff and not is_superuser);
create policy people_join on tenants_user for insert to slipway_app
    with check (not is_staff and not is_superuser and (select slipway.current_tenant_id()) is not null);
grant select, insert on tenants_user to slipway_app;
grant update (password, last_login, name, is_active, activated_at) on tenants_user to slipway_app;

-- Whether an address has a user already; the caller must know the whole address.
create function slipway.user_by_email(address text) returns uuid
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select id from public.tenants_user
    where lower(email) = lower(address) and not is_staff and not is_superuser
$$;
revoke all on function slipway.user_by_email(text) from public;
grant execute on function slipway.user_by_email(text) to slipway_app, slipway_operator;
