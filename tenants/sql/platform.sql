-- What the platform's back ends may see and do across tenants. Each function asks for the proof of a
-- platform key: SQL injected into the web process, which knows no key, finds no tenant's name here.

-- Raises unless `proof` belongs to a live platform key that has the scope. No role may call it
-- itself; the functions below do.
create function slipway.require_platform_key(wanted text, proof bytea, scope text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from public.tenants_platformkey k
    where k.prefix = wanted and k.secret_hash = sha256(proof)
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
      and (scope is null or k.scopes ? scope);
    if not found then
        raise exception 'This needs a platform key.' using errcode = 'insufficient_privilege';
    end if;
end
$$;

-- The tenant that a platform key acts for, by id or by slug.
create function slipway.platform_tenant(
    key text, proof bytea, wanted_uuid uuid, wanted_slug text
)
returns table (id bigint, schema_name text, home text, uuid uuid, slug text, status text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, null);
    return query
        select t.id, t.schema_name::text, t.home::text, t.uuid, t.slug::text, t.status::text
        from public.tenants_tenant t
        where t.uuid = wanted_uuid or t.slug = wanted_slug;
end
$$;

-- One page of tenants, newest first; a filter that is null does not filter.
create function slipway.platform_tenants(
    key text, proof bytea, before_id bigint, page integer,
    wanted_status text, wanted_plan text, wanted_external_id text
)
returns setof public.tenants_tenant
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, 'tenants:read');
    return query
        select t.*
        from public.tenants_tenant t
        where (before_id is null or t.id < before_id)
          and (wanted_status is null or t.status = wanted_status)
          and (wanted_plan is null or t.plan = wanted_plan)
          and (wanted_external_id is null or t.external_id = wanted_external_id)
        order by t.id desc
        limit least(page, 101);
end
$$;

-- Moves a tenant from one status to another, and counts: 0 when it stands elsewhere.
create function slipway.platform_move_tenant(
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

-- The addresses of a tenant: what to forget when its status changes.
create function slipway.platform_domains(key text, proof bytea, wanted bigint)
returns table (domain text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, null);
    return query
        select d.domain::text from public.tenants_domain d where d.tenant_id = wanted;
end
$$;

-- One page of the audit trail, newest first, of one tenant or of all, with the tenants' public ids.
create function slipway.platform_audit(
    key text, proof bytea, wanted bigint, before_id uuid, page integer
)
returns table (entry public.tenants_auditentry, tenant_uuid uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform slipway.require_platform_key(key, proof, 'audit:read');
    return query
        select e, t.uuid
        from public.tenants_auditentry e
        left join public.tenants_tenant t on t.id = e.tenant_id
        where (before_id is null or e.id < before_id)
          and (wanted is null or e.tenant_id = wanted)
        order by e.id desc
        limit least(page, 101);
end
$$;

revoke all on function slipway.require_platform_key(text, bytea, text) from public;
revoke all on function
    slipway.platform_tenant(text, bytea, uuid, text),
    slipway.platform_tenants(text, bytea, bigint, integer, text, text, text),
    slipway.platform_move_tenant(text, bytea, bigint, text, text),
    slipway.platform_domains(text, bytea, bigint),
    slipway.platform_audit(text, bytea, bigint, uuid, integer)
from public;
grant execute on function
    slipway.platform_tenant(text, bytea, uuid, text),
    slipway.platform_tenants(text, bytea, bigint, integer, text, text, text),
    slipway.platform_move_tenant(text, bytea, bigint, text, text),
    slipway.platform_domains(text, bytea, bigint),
    slipway.platform_audit(text, bytea, bigint, uuid, integer)
to slipway_app, slipway_operator;
