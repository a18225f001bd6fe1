from django.db import migrations, models


class Migration(migrations.Migration):
    """What waits is tried at once, or cancelled, by filter too."""

    dependencies = [("jobs", "0013_console_numbers")]

    operations = [
        migrations.AlterField(
            model_name="replay",
            name="action",
            field=models.CharField(
                choices=[
                    ("replay", "Replay"),
                    ("discard", "Discard"),
                    ("missing", "Missing"),
                    ("retry", "Retry"),
                    ("cancel", "Cancel"),
                ],
                max_length=10,
            ),
        ),
    ]
