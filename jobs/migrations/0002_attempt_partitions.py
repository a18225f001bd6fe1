from datetime import UTC, datetime

from django.db import migrations

from jobs import partitions
from tenants.rls import IsolateTenant

CREATE = """
create table jobs_attempt (
  id uuid not null,
  tenant_id bigint not null,
  queue varchar(40) not null,
  work_id uuid not null,
  number smallint not null,
  started_at timestamptz not null,
  duration_ms integer,
  outcome varchar(10) not null,
  error text not null,
  request jsonb,
  response jsonb,
  drainer bigint not null,
  -- The one index: a work's timeline. It also refuses a second row for the same try.
  primary key (tenant_id, work_id, number, started_at)
) partition by range (started_at);
"""


def make_first(apps, schema_editor):
    """Today's partition and those of the next two weeks; `manage.py partitions` goes on from there."""
    today = datetime.now(UTC).date()
    with schema_editor.connection.cursor() as cursor:
        partitions.make(cursor, partitions.missing(cursor, today=today))


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.RunSQL(CREATE, "drop table jobs_attempt"),
        IsolateTenant("Attempt", grant="select", tenant_key=False),
        migrations.RunPython(make_first, migrations.RunPython.noop),
    ]
