from django.db import migrations, models


def added(model):
    return [
        migrations.AddField(
            model_name=model,
            name="forgiven",
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name=model,
            name="throttled_since",
            field=models.DateTimeField(null=True),
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("works", "0001_initial")]

    operations = [*added("parcel"), *added("telegram")]
