-- While a tenant moves, a trigger on each of its tables in the old home notes which rows are written
-- there, and refuses writes while it is being switched, and the tenant's own for ever after.
-- lifecycle.moving.capture makes the triggers, for that tenant's rows alone.

-- Arguments: the move's id; the tenant's number; the columns of the table's primary key.
--
-- A writer holds a shared lock until it commits. The switch takes the exclusive one: it waits for the
-- writers that are under way, and those that come meanwhile are refused at once, never made to wait.
-- Each statement here sees what was committed before it, and so sees a switch whose lock is gone. One
-- that reads from a snapshot of its own would not: it is refused. SW001 is TenantMoving (config.problems).
create function slipway.capture_move() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    tenant bigint := tg_argv[1]::bigint;
    moved boolean;
    before jsonb;
    after jsonb;
begin
    if current_setting('transaction_isolation') <> 'read committed'
        or not pg_try_advisory_xact_lock_shared(hashtextextended('slipway move ' || tenant, 0))
    then
        raise exception 'Tenant % is moving to another home.', tenant using errcode = 'SW001';
    end if;
    select m.moved_at is not null into moved from public.lifecycle_planmove m
    where m.id = tg_argv[0]::uuid and m.tenant_id = tenant and m.finished_at is null;
    if not found then
        return null;  -- The move is over, and the trigger about to go.
    end if;
    if moved then
        -- Whoever looks past row-level security by the name of a schema, a data migration or a change
        -- of keys, finds what was left, and may write it: nobody reads it, and it is about to go.
        if coalesce(current_setting('slipway.tenant', true), '') = '' and exists (
            select from pg_roles where rolname = session_user and (rolbypassrls or rolsuper)
        ) then
            return null;
        end if;
        raise exception 'Tenant % has moved to another home.', tenant using errcode = 'SW001';
    end if;
    -- Of an update that changes the key itself, both.
    if tg_op <> 'DELETE' then
        after := (select jsonb_object_agg(c, to_jsonb(new) -> c) from unnest(tg_argv[2:]) c);
        insert into public.lifecycle_change (tenant_id, "table", key)
        values (tenant, tg_table_name, after);
    end if;
    if tg_op <> 'INSERT' then
        before := (select jsonb_object_agg(c, to_jsonb(old) -> c) from unnest(tg_argv[2:]) c);
        insert into public.lifecycle_change (tenant_id, "table", key)
        select tenant, tg_table_name, before where before is distinct from after;
    end if;
    return null;
end
$$;
revoke all on function slipway.capture_move() from public;
