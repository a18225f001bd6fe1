-- The catalogue of event types is the platform's: who changes it shows the database a platform key.

-- Adds a type, or the next version of one whose schema is another; puts an archived one back in use.
-- Says whether a version was made, which one counts now, and whether anything changed.
create function slipway.platform_put_event_type(
    key text, proof bytea, wanted text, said text, wanted_schema jsonb
)
returns table (made boolean, version smallint, changed boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    latest public.webhooks_eventtype;
    revived boolean;
begin
    perform slipway.require_platform_key(key, proof, 'event-types:write');
    -- Two who add the next version at once make two, one after the other.
    perform pg_advisory_xact_lock(hashtextextended('event type ' || wanted, 0));
    select * into latest from public.webhooks_eventtype t
    where t.name = wanted order by t.version desc limit 1;
    made := latest.id is null or latest.schema is distinct from wanted_schema;
    update public.webhooks_eventtype t set archived_at = null
    where t.name = wanted and t.archived_at is not null;
    revived := found;
    if made then
        insert into public.webhooks_eventtype as t (name, version, description, schema)
        values (wanted, coalesce(latest.version, 0) + 1, said, wanted_schema)
        returning t.version into platform_put_event_type.version;
        changed := true;
    else
        update public.webhooks_eventtype t set description = said
        where t.id = latest.id and t.description <> said;
        changed := found or revived;
        version := latest.version;
    end if;
    return next;
end
$$;

-- Archives every version of a type, and counts: 0 when it is not there, or archived already.
create function slipway.platform_archive_event_type(key text, proof bytea, wanted text)
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    archived integer;
begin
    perform slipway.require_platform_key(key, proof, 'event-types:write');
    perform pg_advisory_xact_lock(hashtextextended('event type ' || wanted, 0));
    update public.webhooks_eventtype t set archived_at = now()
    where t.name = wanted and t.archived_at is null;
    get diagnostics archived = row_count;
    return archived;
end
$$;

revoke all on function
    slipway.platform_put_event_type(text, bytea, text, text, jsonb),
    slipway.platform_archive_event_type(text, bytea, text)
from public;
grant execute on function
    slipway.platform_put_event_type(text, bytea, text, text, jsonb),
    slipway.platform_archive_event_type(text, bytea, text)
to slipway_app, slipway_operator;
