from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, OrderBy, Q

NEWEST = OrderBy(F("id"), descending=True, nulls_last=True)
OPEN = Q(resolved_at__isnull=True)

# Attempts, newest first; and by outcome those that did not succeed. On each day by itself, without
# stopping its writers: the parent's index then takes them over, and new days get theirs with it.
OF_A_DAY = (
    ("newest", "(started_at, id)"),
    (
        "fell",
        "(outcome, started_at desc nulls last, id desc nulls last) where outcome <> 'succeeded'",
    ),
)


def index_attempts(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "select inhrelid::regclass::text from pg_inherits"
            " where inhparent = 'jobs_attempt'::regclass order by 1"
        )
        days = [name for (name,) in cursor.fetchall()]
        for name, columns in OF_A_DAY:
            for day in days:
                table = day.removeprefix("public.")
                # One that was begun and not ended is of no use.
                cursor.execute(f'drop index concurrently if exists "{table}_{name}"')
                cursor.execute(f'create index concurrently "{table}_{name}" on "{table}" {columns}')
            cursor.execute(f"create index jobs_attempt_{name} on jobs_attempt {columns}")


def forget_attempts(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        for name, _ in OF_A_DAY:
            cursor.execute(f"drop index if exists jobs_attempt_{name}")


class Migration(migrations.Migration):
    """Indexes for the console's lists. None stops a writer while it is made."""

    atomic = False
    dependencies = [("jobs", "0010_learnt")]

    operations = [
        AddIndexConcurrently(
            model_name="job",
            index=models.Index(
                F("state"),
                NEWEST,
                name="job_standing",
                condition=~Q(state__in=["succeeded", "processing"]),
            ),
        ),
        AddIndexConcurrently(
            model_name="lane",
            index=models.Index(
                NEWEST,
                name="lane_paused",
                condition=Q(paused_until__isnull=False) | Q(operator_paused_until__isnull=False),
            ),
        ),
        AddIndexConcurrently(
            model_name="lane",
            index=models.Index(
                NEWEST, name="lane_failing", condition=Q(failing_since__isnull=False)
            ),
        ),
        AddIndexConcurrently(
            model_name="deadletter",
            index=models.Index(NEWEST, name="deadletter_waiting", condition=OPEN),
        ),
        AddIndexConcurrently(
            model_name="deadletter",
            index=models.Index(F("queue"), NEWEST, name="deadletter_of_queue", condition=OPEN),
        ),
        AddIndexConcurrently(
            model_name="deadletter",
            index=models.Index(F("reason"), NEWEST, name="deadletter_of_reason", condition=OPEN),
        ),
        AddIndexConcurrently(
            model_name="deadletter",
            index=models.Index(fields=["work_id"], name="deadletter_work"),
        ),
        migrations.RunPython(index_attempts, forget_attempts),
    ]
