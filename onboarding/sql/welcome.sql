-- The welcome mail, counted before it is sent: a drainer that dies in mid-send must not send forever.

-- Says what to do about the mail `mail` of the current tenant, and notes that it is done:
-- 'send'; 'later' when another mail of ours went to the address less than a day ago;
-- 'enough' when it went out twice and nobody saw the answer.
create function slipway.begin_welcome(mail uuid, digest bytea) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
    mine bigint := slipway.current_tenant_id();
    sent smallint;
begin
    if mine is null then
        raise exception 'No tenant is set.' using errcode = 'insufficient_privilege';
    end if;
    -- Two sign-ups of one address at the same moment take turns here.
    perform pg_advisory_xact_lock(hashtextextended(encode(digest, 'hex'), 8));
    select w.sends into sent from public.onboarding_welcomemail w
    where w.id = mail and w.tenant_id = mine;
    if sent >= 2 then
        return 'enough';
    end if;
    if coalesce(sent, 0) = 0 and exists (
        select from public.onboarding_welcomemail w
        where w.address_digest = digest and w.started_at > now() - interval '1 day'
          and w.sends > 0 and w.id <> mail
    ) then
        return 'later';
    end if;
    insert into public.onboarding_welcomemail as w (id, tenant_id, address_digest, sends, started_at)
    values (mail, mine, digest, 1, now())
    on conflict (id) do update set sends = w.sends + 1, started_at = now()
    where w.tenant_id = mine;
    return 'send';
end
$$;

-- Seconds until the address may have another welcome mail; 0 when it may have one now.
create function slipway.welcome_wait(digest bytea) returns float8
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(extract(epoch from w.started_at + interval '1 day' - now())), 0)
    from public.onboarding_welcomemail w
    where w.address_digest = digest and w.started_at > now() - interval '1 day' and w.sends > 0
$$;

revoke all on function slipway.begin_welcome(uuid, bytea), slipway.welcome_wait(bytea) from public;
grant execute on function slipway.begin_welcome(uuid, bytea), slipway.welcome_wait(bytea)
to slipway_app, slipway_operator;
