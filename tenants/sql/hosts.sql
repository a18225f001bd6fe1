-- Whose address this is. The app role cannot list tenants: it must know the host, slug or id.

create function slipway.tenant_by_host(host text)
returns table (id bigint, schema_name text, home text, uuid uuid, slug text, status text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select t.id, t.schema_name, t.home, t.uuid, t.slug, t.status
    from public.tenants_domain d join public.tenants_tenant t on t.id = d.tenant_id
    where d.domain = host
$$;

create function slipway.tenant_by_slug(wanted text)
returns table (id bigint, schema_name text, home text, uuid uuid, slug text, status text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select t.id, t.schema_name, t.home, t.uuid, t.slug, t.status
    from public.tenants_tenant t where t.slug = wanted
$$;

revoke all on function slipway.tenant_by_host(text), slipway.tenant_by_slug(text) from public;
grant execute on function slipway.tenant_by_host(text), slipway.tenant_by_slug(text) to slipway_app, slipway_operator;
-- An accepted sign-up draws its tenant's number before the tenant's row exists.
grant usage on sequence tenants_tenant_id_seq to slipway_app;

-- A tenant's first address is named by its slug; later ones are the platform's to give.
create policy own_address on tenants_domain as restrictive for insert to slipway_app
    with check (exists (
        select from tenants_tenant t
        where t.id = tenant_id and t.status = 'provisioning'
          and left(domain, length(t.slug) + 1) = t.slug || '.'));
