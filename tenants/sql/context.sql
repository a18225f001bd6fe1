-- The tenant context: who asks, proved by a MAC that only the application can make.

create schema slipway;
grant usage on schema slipway to slipway_app, slipway_operator, slipway_analytics;

-- HMAC pads (RFC 2104) of the keys that are valid. Only the owner reads them.
create table slipway.context_key (
    id text primary key,
    inner_pad bytea not null,
    outer_pad bytea not null,
    created_at timestamptz not null default now()
);
revoke all on slipway.context_key from public, slipway_operator, slipway_analytics;

-- The tenant that the connection works for; null when nothing is set; an error when it is forged,
-- expired or made for another connection. STABLE, never IMMUTABLE: a prepared statement would go on
-- with the former tenant. Restricted: a parallel worker has a pid of its own.
create function slipway.current_tenant_id() returns bigint
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    context text := current_setting('slipway.tenant', true);
    part text[];
    key slipway.context_key;
begin
    if context is null or context = '' then
        return null;
    end if;
    part := string_to_array(context, '.');
    select * into key from slipway.context_key where id = part[4];
    if not found or array_length(part, 1) <> 5 or part[5] <> encode(sha256(key.outer_pad || sha256(
        key.inner_pad || convert_to(array_to_string(part[1:4], '.'), 'UTF8'))), 'hex')
    then
        raise exception 'The tenant context is forged.' using errcode = 'insufficient_privilege';
    end if;
    if part[3] not in ('0', pg_backend_pid()::text) then
        raise exception 'The tenant context belongs to another connection.'
            using errcode = 'insufficient_privilege';
    end if;
    if to_timestamp(part[2]::bigint) < clock_timestamp() then
        raise exception 'The tenant context has expired.' using errcode = 'insufficient_privilege';
    end if;
    return part[1]::bigint;
end
$$;

-- The one way in: the app role may not call set_config() itself.
create function slipway.enter_tenant(path text, context text) returns void
language plpgsql volatile security definer
as $$
begin
    perform pg_catalog.set_config('search_path', path, false),
            pg_catalog.set_config('slipway.tenant', context, false);
end
$$;

revoke all on function slipway.current_tenant_id() from public;
revoke all on function slipway.enter_tenant(text, text) from public;
grant execute on function slipway.current_tenant_id() to slipway_app, slipway_operator, slipway_analytics;
grant execute on function slipway.enter_tenant(text, text) to slipway_app;
