from django.db import migrations

from onboarding.sql import HERE, run_file


class Migration(migrations.Migration):
    dependencies = [
        ("onboarding", "0003_undo_webhooks"),
        ("jobs", "0006_replay"),
    ]

    operations = [
        run_file("undo_replays.sql", undo=(HERE / "undo_tenant.sql").read_text(encoding="utf-8")),
    ]
