import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

GROUPS = ("viewer", "operator", "administrator")
DEEDS = (
    ("replay", "Do dead letters again"),
    ("discard", "Give dead letters up"),
    ("cancel", "Withdraw works"),
    ("retry", "Try works again now"),
    ("steer", "Pause, resume and narrow lanes"),
    ("suspend", "Suspend and reopen tenants"),
    ("resume_onboarding", "Let a sign-up go on"),
    ("undo_onboarding", "Undo a sign-up"),
    ("close", "Close tenants for good"),
    ("plan", "Move tenants to other plans"),
    ("export", "Export a tenant's data"),
    ("erase", "Erase a person"),
    ("revoke", "Revoke keys"),
    ("operate", "Make operators, and change their roles"),
)


def make_groups(apps, schema_editor):
    """What they may is given by console.roles.complete, when the permissions are there."""
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    for name in GROUPS:
        groups.get_or_create(name=name)


def drop_groups(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    groups.filter(name__in=GROUPS).delete()


def figures():
    """The columns of a minute, and of an hour."""
    return [
        ("id", models.BigAutoField(primary_key=True, serialize=False)),
        ("at", models.DateTimeField()),
        ("queue", models.CharField(max_length=40)),
        ("depth", models.JSONField(null=True)),
        ("oldest", models.JSONField(null=True)),
        ("made", models.BigIntegerField(default=0)),
        ("traced", models.BigIntegerField(default=0)),
        ("untraced", models.JSONField(default=list)),
        ("ended", models.JSONField(default=dict)),
        ("took", models.JSONField(default=dict)),
        ("busiest", models.JSONField(default=dict)),
    ]


class Migration(migrations.Migration):
    """Roles, the second factor, and the numbers of each minute and hour."""

    initial = True
    dependencies = [
        ("tenants", "0005_console_lists"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="Deed",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={"permissions": DEEDS, "managed": False, "default_permissions": ()},
        ),
        migrations.CreateModel(
            name="Hour",
            fields=figures(),
            options={
                "constraints": [models.UniqueConstraint(fields=("at", "queue"), name="hour_key")]
            },
        ),
        migrations.CreateModel(
            name="Minute",
            fields=figures(),
            options={
                "constraints": [models.UniqueConstraint(fields=("at", "queue"), name="minute_key")]
            },
        ),
        migrations.CreateModel(
            name="SecondFactor",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="The human-readable name of this device.", max_length=64
                    ),
                ),
                (
                    "confirmed",
                    models.BooleanField(default=True, help_text="Is this device ready for use?"),
                ),
                (
                    "throttling_failure_timestamp",
                    models.DateTimeField(
                        blank=True,
                        default=None,
                        help_text="A timestamp of the last failed verification attempt."
                        " Null if last attempt succeeded.",
                        null=True,
                    ),
                ),
                (
                    "throttling_failure_count",
                    models.PositiveIntegerField(
                        default=0, help_text="Number of successive failed attempts."
                    ),
                ),
                ("secret", models.TextField()),
                ("last_step", models.BigIntegerField(default=0)),
                (
                    "recovery",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64), default=list, size=None
                    ),
                ),
                (
                    "made_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("user",), name="secondfactor_user")
                ],
            },
        ),
        # Nobody who reads for statistics has anything to find there.
        migrations.RunSQL(
            "revoke all on console_secondfactor from slipway_analytics", migrations.RunSQL.noop
        ),
        migrations.RunPython(make_groups, drop_groups),
    ]
