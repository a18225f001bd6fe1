from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("onboarding", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="pendingonboarding",
            name="state",
            field=models.CharField(
                choices=[
                    ("scheduled", "Scheduled"),
                    ("pending", "Pending"),
                    ("processing", "Processing"),
                    ("held", "Held"),
                    ("failed", "Failed"),
                    ("succeeded", "Succeeded"),
                    ("dead_letter", "Dead Letter"),
                    ("discarding", "Discarding"),
                    ("discarded", "Discarded"),
                    ("cancelled", "Cancelled"),
                    ("unknown", "Unknown"),
                ],
                db_default="pending",
                default="pending",
                max_length=12,
            ),
        ),
    ]
