from django.db import migrations, models

# Those that were replayed or lost before: what they have beyond twelve tries (onboarding.policy).
CATCH_UP = """
update onboarding_pendingonboarding set forgiven = max_attempts - 12
where attempts > 0 and max_attempts > 12
  and state not in ('succeeded', 'discarded', 'cancelled')
"""


class Migration(migrations.Migration):
    dependencies = [("onboarding", "0004_undo_replays")]

    operations = [
        migrations.AddField(
            model_name="pendingonboarding",
            name="forgiven",
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="pendingonboarding",
            name="throttled_since",
            field=models.DateTimeField(null=True),
        ),
        migrations.RunSQL(CATCH_UP, migrations.RunSQL.noop),
    ]
