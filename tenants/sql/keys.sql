-- Keys are found by who can show them. `proof` is sha256(key); the table holds sha256(proof), so
-- that reading the table gives nobody a proof.

create function slipway.find_api_key(wanted text, proof bytea)
returns table (
    scopes text[], expires_at timestamptz, used boolean,
    id bigint, schema_name text, home text, uuid uuid, slug text, status text
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select array(select jsonb_array_elements_text(k.scopes)), k.expires_at,
           k.last_used_at is not null, t.id, t.schema_name, t.home, t.uuid, t.slug, t.status
    from public.tenants_apikey k join public.tenants_tenant t on t.id = k.tenant_id
    where k.prefix = wanted and k.secret_hash = sha256(proof)
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
$$;

create function slipway.find_platform_key(wanted text, proof bytea)
returns table (scopes text[], expires_at timestamptz, rate_limit integer)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select array(select jsonb_array_elements_text(k.scopes)), k.expires_at, k.rate_limit
    from public.tenants_platformkey k
    where k.prefix = wanted and k.secret_hash = sha256(proof)
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
$$;

-- Coarse on purpose: a busy key is one update in 20 seconds.
create function slipway.note_key_use(prefixes text[]) returns void
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    update public.tenants_apikey set last_used_at = now()
    where prefix = any (prefixes)
      and (last_used_at is null or last_used_at < now() - interval '20 seconds');
    update public.tenants_platformkey set last_used_at = now()
    where prefix = any (prefixes)
      and (last_used_at is null or last_used_at < now() - interval '20 seconds');
$$;

revoke all on function
    slipway.find_api_key(text, bytea), slipway.find_platform_key(text, bytea),
    slipway.note_key_use(text[])
from public;
grant execute on function
    slipway.find_api_key(text, bytea), slipway.find_platform_key(text, bytea),
    slipway.note_key_use(text[])
to slipway_app, slipway_operator;
