-- Whether a table with a partition a day has one for this moment: what would find none is kept
-- elsewhere, and its transaction goes on. One that was detached is none.
create function slipway.has_partition(parent regclass, moment timestamptz) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_inherits
        where inhparent = parent and not inhdetachpending
          and inhrelid = to_regclass(
            format('public.%I', (select relname from pg_class where oid = parent)
                                || to_char(moment at time zone 'UTC', '_YYYYMMDD')))
    )
$$;

revoke all on function slipway.has_partition(regclass, timestamptz) from public;
grant execute on function slipway.has_partition(regclass, timestamptz)
to slipway_app, slipway_operator;

-- As before (platform.sql); on a day that has no partition the events keep what they say themselves.
create or replace function slipway.tell_platform(
    events uuid[], types text[], said jsonb[], moment text, tries integer
)
returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    platform constant bigint := 9223372036854775807;  -- tenants.context.PLATFORM_ID
    whose text;
    told integer;
begin
    select 'tnt_' || t.uuid into whose
    from public.tenants_tenant t where t.id = slipway.current_tenant_id();
    if whose is null then
        raise exception 'Only what happens to a tenant is told to the platform.'
            using errcode = 'insufficient_privilege';
    end if;
    if exists (
        select from unnest(types) kind where kind !~ '^(tenant|endpoint|delivery)\.[a-z_]{1,50}$'
    ) then
        raise exception 'The platform hears of its own event types.'
            using errcode = 'insufficient_privilege';
    end if;
    with given as materialized (
        select g.id, g.type, g.place,
               (g.said || jsonb_build_object('tenant_id', whose))::text as data,
               array[g.type, split_part(g.type, '.', 1) || '.*']::varchar[] as names
        from unnest(events, types, said) with ordinality as g (id, type, said, place)
    ), today as materialized (
        select slipway.has_partition('public.webhooks_payload', now()) as there
    ), new as (
        insert into public.webhooks_event (id, tenant_id, type, version, kept_payload)
        select given.id, platform, given.type, 1, case when not today.there then given.data end
        from given, today
        returning id, created_at
    ), kept as (
        insert into public.webhooks_payload (event_id, tenant_id, created_at, data)
        select new.id, platform, new.created_at, given.data
        from new join given using (id), today where today.there
    ), wanted as materialized (
        select given.id as event_id, given.place, w.id as endpoint_id, w.host, w.ordered,
               case when w.disabled_at is null then 'pending' else 'held' end as state,
               coalesce(cardinality(w.schedule) + 1, tries) as tries
        from given join public.webhooks_endpoint w
          on w.tenant_id = platform and w.deleted_at is null
         and (w.event_types = '{}' or w.event_types && given.names)
    ), locked as materialized (
        select w.id from public.webhooks_endpoint w
        where w.tenant_id = platform
          and w.id in (select endpoint_id from wanted where wanted.ordered)
        order by w.id for update
    ), drawn as (
        update public.webhooks_endpoint w set next_seq = w.next_seq + n.many
        from (select endpoint_id, count(*) as many from wanted join locked
                on locked.id = wanted.endpoint_id group by endpoint_id) n
        where w.tenant_id = platform and w.id = n.endpoint_id
        returning w.id, w.next_seq - n.many as first
    )
    insert into public.webhooks_delivery
        (id, tenant_id, event_id, endpoint_id, lane, host, seq, state, max_attempts)
    select (moment || lpad(to_hex(wanted.place), 3, '0')
              || right(gen_random_uuid()::text, 18))::uuid,
           platform, wanted.event_id, wanted.endpoint_id,
           'endpoint:' || wanted.endpoint_id, wanted.host,
           drawn.first - 1
             + row_number() over (partition by wanted.endpoint_id order by wanted.place),
           wanted.state, wanted.tries
    from wanted left join drawn on drawn.id = wanted.endpoint_id;
    get diagnostics told = row_count;
    return told;
end
$$;
