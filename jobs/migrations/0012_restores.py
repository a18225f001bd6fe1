"""What tells that the database went back in time: jobs.engine.gate."""

from django.db import migrations, models

import jobs.models

# A drainer's row that goes leaves its lease in the gate's, whoever deletes it: the highest lease
# that the database knows of never falls, but by a restore.
ROW = """
insert into jobs_gate (id) values (1);

create function slipway.keep_lease() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update public.jobs_gate set lease = old.lease where id = 1 and lease < old.lease;
    return old;
end
$$;
revoke all on function slipway.keep_lease() from public;
create trigger keep_lease after delete on jobs_drainer
    for each row when (old.lease > 0) execute function slipway.keep_lease();

-- For /readyz, as the app role.
create function slipway.gate_held() returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select not exists (select 1 from public.jobs_gate where id = 1 and held_since is null) $$;
revoke all on function slipway.gate_held() from public;
grant execute on function slipway.gate_held() to slipway_app, slipway_operator;

-- After a restore it goes on above every lease that was ever drawn.
grant select, update on sequence jobs_lease_seq, jobs_drainer_id_seq to slipway_operator;
"""

UNDO = """
revoke select, update on sequence jobs_lease_seq, jobs_drainer_id_seq from slipway_operator;
drop function slipway.gate_held();
drop trigger keep_lease on jobs_drainer;
drop function slipway.keep_lease();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0011_console_lists")]

    operations = [
        migrations.AddField(
            model_name="drainer",
            name="lease",
            field=models.BigIntegerField(default=0, db_default=0),
        ),
        migrations.CreateModel(
            name="Gate",
            fields=[
                (
                    "id",
                    models.SmallIntegerField(
                        primary_key=True, serialize=False, default=1, db_default=1
                    ),
                ),
                ("lineage", models.UUIDField(null=True)),
                ("server", models.CharField(blank=True, default="", db_default="", max_length=80)),
                ("lease", models.BigIntegerField(default=0, db_default=0)),
                ("held_since", models.DateTimeField(null=True)),
                (
                    "held_why",
                    models.CharField(blank=True, default="", db_default="", max_length=300),
                ),
                ("remembered", models.BigIntegerField(default=0, db_default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(id=jobs.models.GATE), name="gate_one")
                ]
            },
        ),
        migrations.RunSQL(ROW, UNDO),
    ]
