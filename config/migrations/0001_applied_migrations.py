"""Let /readyz see, as the app role, what is migrated and whether anybody does the work."""

from django.db import migrations

# plpgsql looks a table up when it runs: the pool's does not exist yet when this is made.
CREATE = """
create function slipway.applied_migrations()
returns table (schema text, app text, name text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return query select 'public', m.app::text, m.name::text from public.django_migrations m;
    if to_regclass('pool.django_migrations') is not null then
        return query select 'pool', m.app::text, m.name::text from pool.django_migrations m;
    end if;
end
$$;
create function slipway.drainers_alive() returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select count(*) from public.jobs_drainer
        where dead_at is null and beat_at > now() - interval '15 seconds'
    );
end
$$;
revoke all on function slipway.applied_migrations(), slipway.drainers_alive() from public;
grant execute on function slipway.applied_migrations(), slipway.drainers_alive()
    to slipway_app, slipway_operator;
"""


UNDO = "drop function slipway.applied_migrations(), slipway.drainers_alive()"


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, UNDO)]
