-- What an operator did through a tenant's own services, which run as the app role: policy
-- no_operator lets nobody there pass for an operator, so the console's process vouches for the entry
-- with a MAC that only the application can make. It is written in the transaction of the deed, and
-- is the current tenant's, as any other of the app role's.
create function slipway.record_for_operator(entry text, key text, mac text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    held slipway.context_key;
    said jsonb := entry::jsonb;
begin
    select * into held from slipway.context_key where id = key;
    if not found or mac is null or mac <> encode(sha256(held.outer_pad || sha256(
        held.inner_pad || convert_to('audit.' || entry, 'UTF8'))), 'hex')
    then
        raise exception 'The entry is forged.' using errcode = 'insufficient_privilege';
    end if;
    if to_timestamp((said->>'expires')::float8) < clock_timestamp() then
        raise exception 'The entry has expired.' using errcode = 'insufficient_privilege';
    end if;
    if (said->>'tenant_id')::bigint is distinct from slipway.current_tenant_id() then
        raise exception 'The entry is another tenant''s.' using errcode = 'insufficient_privilege';
    end if;
    insert into public.tenants_auditentry (id, at, tenant_id, actor, action, target, reason,
        before, after, request_id, address)
    values ((said->>'id')::uuid, now(), (said->>'tenant_id')::bigint, said->>'actor',
        said->>'action', said->>'target', said->>'reason', nullif(said->'before', 'null'),
        nullif(said->'after', 'null'), said->>'request_id', (said->>'address')::inet);
end
$$;

revoke all on function slipway.record_for_operator(text, text, text) from public;
grant execute on function slipway.record_for_operator(text, text, text) to slipway_app;
