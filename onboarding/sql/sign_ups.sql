-- Sign-ups: how the app role writes one for nobody's tenant, and finds one by what its caller knows.

-- Without a tenant's context a row may be written only as `accept` writes it: fresh, and with the
-- tenant's number that this very connection has just drawn, so that no sign-up builds in another's
-- house. A unique constraint lets a number be used once.
create policy sign_up on onboarding_pendingonboarding for insert to slipway_app
    with check (
        (select slipway.current_tenant_id()) is null
        and tenant_id = currval('public.tenants_tenant_id_seq'::regclass)
        and lane = 'onboarding:' || tenant_id
        and state = 'pending' and priority = 0 and seq is null
        and attempts = 0 and losses = 0 and lease is null and drainer is null
        and last_error = '' and finished_at is null
        and created_at between now() - interval '5 minutes' and now() + interval '5 minutes'
    );

-- Whether a tenant, in whatever state, has the address. Closed tenants keep theirs in quarantine.
create function slipway.slug_has_tenant(wanted text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select exists (select from public.tenants_tenant where slug = wanted)
$$;

-- Which of these addresses are taken, by tenants or by sign-ups under way.
create function slipway.slugs_taken(wanted text[]) returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select t.slug::text from public.tenants_tenant t where t.slug = any (wanted)
    union
    select o.slug::text from public.onboarding_pendingonboarding o
    where o.slug = any (wanted) and o.state not in ('cancelled', 'discarded')
$$;

-- The sign-up that used an Idempotency-Key since `oldest`. An older one loses its key here.
create function slipway.onboarding_by_key(digest bytea, oldest timestamptz)
returns table (id uuid, slug text, created_at timestamptz, fingerprint bytea)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select o.id, o.slug::text, o.created_at, o.fingerprint
        from public.onboarding_pendingonboarding o
        where o.key_digest = digest and o.created_at >= oldest;
    if not found then
        update public.onboarding_pendingonboarding o set key_digest = null
        where o.key_digest = digest and o.created_at < oldest;
    end if;
end
$$;

-- One sign-up, by the random id that its caller was given. No e-mail address.
create function slipway.onboarding_by_request(request uuid)
returns table (
    id uuid, tenant_id bigint, slug text, tenant_name text, plan text, home text, state text,
    attempts smallint, last_error text, caller text, created_at timestamptz, finished_at timestamptz,
    steps jsonb
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select o.id, o.tenant_id, o.slug, o.tenant_name, o.plan, o.home, o.state, o.attempts,
        o.last_error, o.caller, o.created_at, o.finished_at,
        coalesce((
            select jsonb_object_agg(r.step, r.created_at)
            from public.onboarding_provisionedresource r where r.tenant_id = o.tenant_id
        ), '{}')
    from public.onboarding_pendingonboarding o where o.id = request
$$;

-- The sign-up under way for an address: what the set-up page shows to whoever comes by. No id.
create function slipway.onboarding_by_slug(wanted text)
returns table (
    tenant_name text, home text, state text, attempts smallint, created_at timestamptz, steps jsonb
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select o.tenant_name, o.home, o.state, o.attempts, o.created_at,
        coalesce((
            select jsonb_object_agg(r.step, r.created_at)
            from public.onboarding_provisionedresource r where r.tenant_id = o.tenant_id
        ), '{}')
    from public.onboarding_pendingonboarding o
    where o.slug = wanted and (
        o.state not in ('succeeded', 'discarding', 'discarded', 'cancelled')
        -- Just ready: a process may remember for some seconds that it was not.
        or o.state = 'succeeded' and o.finished_at > now() - interval '1 minute')
$$;

-- A product's own step called back: look again now instead of at the next poll.
create function slipway.hasten_onboarding(request uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
    with moved as (
        update public.onboarding_pendingonboarding set due_at = now()
        where id = request and tenant_id = slipway.current_tenant_id()
          and state in ('scheduled', 'failed')
        returning 1
    )
    select exists (select from moved)
$$;

revoke all on function
    slipway.slug_has_tenant(text), slipway.slugs_taken(text[]),
    slipway.onboarding_by_key(bytea, timestamptz), slipway.onboarding_by_request(uuid),
    slipway.onboarding_by_slug(text), slipway.hasten_onboarding(uuid)
from public;
grant execute on function
    slipway.slug_has_tenant(text), slipway.slugs_taken(text[]),
    slipway.onboarding_by_key(bytea, timestamptz), slipway.onboarding_by_request(uuid),
    slipway.onboarding_by_slug(text), slipway.hasten_onboarding(uuid)
to slipway_app, slipway_operator;
