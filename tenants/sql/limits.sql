-- A tenant's plan and limits come with its key, so that asking for them costs no query.

drop function slipway.find_api_key(text, bytea);
create function slipway.find_api_key(wanted text, proof bytea)
returns table (
    scopes text[], expires_at timestamptz, used boolean,
    id bigint, schema_name text, home text, uuid uuid, slug text, status text,
    plan text, limits jsonb
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select array(select jsonb_array_elements_text(k.scopes)), k.expires_at,
           k.last_used_at is not null, t.id, t.schema_name, t.home, t.uuid, t.slug, t.status,
           t.plan, t.limits
    from public.tenants_apikey k join public.tenants_tenant t on t.id = k.tenant_id
    where k.prefix = wanted and k.secret_hash = sha256(proof)
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
$$;

drop function slipway.platform_tenant(text, bytea, uuid, text);
create function slipway.platform_tenant(
    key text, proof bytea, wanted_uuid uuid, wanted_slug text
)
returns table (
    id bigint, schema_name text, home text, uuid uuid, slug text, status text,
    plan text, limits jsonb
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, null);
    return query
        select t.id, t.schema_name::text, t.home::text, t.uuid, t.slug::text, t.status::text,
               t.plan::text, t.limits
        from public.tenants_tenant t
        where t.uuid = wanted_uuid or t.slug = wanted_slug;
end
$$;

-- Sets the named limits of a tenant, and takes away those that are null; returns what they were.
create function slipway.platform_limit_tenant(
    key text, proof bytea, wanted bigint, given jsonb
)
returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    former jsonb;
begin
    perform slipway.require_platform_key(key, proof, 'tenants:write');
    select t.limits into former from public.tenants_tenant t where t.id = wanted for update;
    update public.tenants_tenant t set limits = jsonb_strip_nulls(t.limits || given)
    where t.id = wanted;
    return former;
end
$$;

revoke all on function
    slipway.find_api_key(text, bytea), slipway.platform_tenant(text, bytea, uuid, text),
    slipway.platform_limit_tenant(text, bytea, bigint, jsonb)
from public;
grant execute on function
    slipway.find_api_key(text, bytea), slipway.platform_tenant(text, bytea, uuid, text),
    slipway.platform_limit_tenant(text, bytea, bigint, jsonb)
to slipway_app, slipway_operator;
