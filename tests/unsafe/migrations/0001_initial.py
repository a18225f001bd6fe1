from django.db import migrations, models

from tenants.rls import IsolateTenant


class Migration(migrations.Migration):
    initial = True
    dependencies = [("notes", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Diary", fields=[("id", models.BigAutoField(primary_key=True))]
        ),
        migrations.CreateModel(
            name="Bookmark", fields=[("id", models.BigAutoField(primary_key=True))]
        ),
        IsolateTenant("Bookmark"),
    ]
