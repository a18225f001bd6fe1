"""`manage.py prepare`: whatever the database lacks to be started on."""

from datetime import UTC, datetime
from io import StringIO

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections

from jobs import partitions


def test_a_start_after_a_long_stop_makes_the_partitions_of_today(settings, tmp_path):
    settings.STATE_DIR = tmp_path
    today = datetime.now(UTC).date()
    last = partitions.name_of(today, parent="webhooks_payload")
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"alter table webhooks_payload detach partition {last}")
        assert partitions.missing(cursor, today=today, parent="webhooks_payload") == [today]
    call_command("prepare", stdout=StringIO())
    with connections["owner"].cursor() as cursor:
        assert partitions.missing(cursor, today=today, parent="webhooks_payload") == []
        cursor.execute(f"select from {last}")
    assert (tmp_path / "platform-key").read_text().startswith("slp_")
    people = get_user_model().objects.using("operator")
    people.filter(email__startswith="operator@", is_superuser=True).delete()
