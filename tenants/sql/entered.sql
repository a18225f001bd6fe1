-- The tenant context, checked where it is entered and remembered by the session.
--
-- What a session last drew from a sequence (currval) is its own, no other session sees it, and only
-- who may update the sequence can change it: the app role may not. So it holds what enter_tenant()
-- has checked, and each statement asks for that and not for a MAC. docs/decisions/0012 argues it.

create unlogged sequence slipway.entered_tenant minvalue 0 start 0;  -- 0: nobody.
create unlogged sequence slipway.entered_until minvalue 0 start 0;   -- Unix seconds.
revoke all on sequence slipway.entered_tenant, slipway.entered_until from slipway_operator;
grant select on sequence slipway.entered_tenant, slipway.entered_until
    to slipway_app, slipway_operator, slipway_analytics;

-- What is wrong with a context, in words; null when it is good. Until now current_tenant_id()'s.
create or replace function slipway.context_fault(context text) returns text
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    part text[] := string_to_array(context, '.');
    key slipway.context_key;
begin
    select * into key from slipway.context_key where id = part[4];
    if not found or array_length(part, 1) <> 5 or part[5] <> encode(sha256(key.outer_pad || sha256(
        key.inner_pad || convert_to(array_to_string(part[1:4], '.'), 'UTF8'))), 'hex')
    then
        return 'The tenant context is forged.';
    end if;
    if part[3] not in ('0', pg_backend_pid()::text) then
        return 'The tenant context belongs to another connection.';
    end if;
    if to_timestamp(part[2]::bigint) < clock_timestamp() then
        return 'The tenant context has expired.';
    end if;
    return null;
end
$$;

-- The tenant of a context that this session has not entered, or not lately: checked in full.
create or replace function slipway.check_context(context text) returns bigint
language plpgsql stable parallel restricted security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    fault text := slipway.context_fault(context);
begin
    if fault is not null then
        raise exception '%', fault using errcode = 'insufficient_privilege';
    end if;
    return split_part(context, '.', 1)::bigint;
end
$$;

-- The tenant that the connection works for; null when nothing is set; an error when it is forged,
-- expired or made for another connection. STABLE, never IMMUTABLE: a prepared statement would go on
-- with the former tenant. Restricted: a parallel worker has a session of its own.
-- The setting must name the tenant that was entered last: after a rollback it does not.
create or replace function slipway.current_tenant_id() returns bigint
language plpgsql stable parallel restricted
as $$
declare
    context text := current_setting('slipway.tenant', true);
begin
    if context is null or context = '' then
        return null;
    end if;
    if starts_with(context, '+')
        and starts_with(context, '+' || currval('slipway.entered_tenant') || '.')
        and currval('slipway.entered_until') > date_part('epoch', clock_timestamp())
    then
        return currval('slipway.entered_tenant');
    end if;
    return slipway.check_context(ltrim(context, '+'));
end
$$;

-- The one way in: the app role may not call set_config() itself. What is entered takes the place of
-- what was entered before, be it good, bad or nobody's; a read-only transaction, where that cannot
-- be, is refused. A standby has no sequences to write: there each statement checks in full.
create or replace function slipway.enter_tenant(path text, context text) returns void
language plpgsql volatile security definer
as $$
declare
    good boolean := context <> '' and slipway.context_fault(context) is null;
    until bigint := 0;
begin
    if not pg_catalog.pg_is_in_recovery() then
        -- Not for longer than a quarter of an hour: a key that is taken away is then missed.
        if good then
            until := least(pg_catalog.split_part(context, '.', 2)::bigint,
                           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::bigint + 900);
            context := '+' || context;
        end if;
        perform pg_catalog.setval('slipway.entered_until', until),
                pg_catalog.setval('slipway.entered_tenant', case when good
                    then pg_catalog.ltrim(pg_catalog.split_part(context, '.', 1), '+')::bigint
                    else 0 end);
    end if;
    perform pg_catalog.set_config('search_path', path, false),
            pg_catalog.set_config('slipway.tenant', context, false);
end
$$;

revoke all on function slipway.context_fault(text) from public;
revoke all on function slipway.check_context(text) from public;
grant execute on function slipway.check_context(text)
    to slipway_app, slipway_operator, slipway_analytics;
