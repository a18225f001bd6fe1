-- Which keys of the tenant context are accepted: their names and ages, never what they are made of.
-- For `manage.py rotate-keys` and `doctor`, as the operator; only the owner adds and removes them.

create function slipway.context_keys()
returns table (id text, created_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select k.id, k.created_at from slipway.context_key k order by k.created_at, k.id $$;

revoke all on function slipway.context_keys() from public;
grant execute on function slipway.context_keys() to slipway_operator;
