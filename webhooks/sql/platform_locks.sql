-- The function of payload_day.sql. Its locks are now those of webhooks/fan_out.py: who publishes holds an
-- endpoint against a change of its order, and an ordered one against who publishes beside it.

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
    families text[];
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
    select array_agg(distinct split_part(kind, '.', 1) || '.*') into families
    from unnest(types) kind;
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
    ), heard as materialized (
        select w.id, w.host, w.ordered, w.event_types, w.disabled_at, w.schedule
        from public.webhooks_endpoint w
        where w.tenant_id = platform and w.deleted_at is null
          and (w.event_types = '{}' or w.event_types && (types || families)::varchar[])
        order by w.id for key share
    ), wanted as materialized (
        select given.id as event_id, given.place, w.id as endpoint_id, w.host, w.ordered,
               case when w.disabled_at is null then 'pending' else 'held' end as state,
               coalesce(cardinality(w.schedule) + 1, tries) as tries
        from given join heard w on w.event_types = '{}' or w.event_types && given.names
    ), locked as materialized (
        select w.id, case when w.disabled_at is null then 'pending' else 'held' end as state
        from public.webhooks_endpoint w
        where w.tenant_id = platform
          and w.id in (select endpoint_id from wanted where wanted.ordered)
        order by w.id for no key update
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
           coalesce(locked.state, wanted.state), wanted.tries
    from wanted left join drawn on drawn.id = wanted.endpoint_id
    left join locked on locked.id = wanted.endpoint_id;
    get diagnostics told = row_count;
    return told;
end
$$;
