from django.db import migrations, models


class Migration(migrations.Migration):
    """A template's header and buttons: columns with a default, so that no row is written again.

    Grants and policies are the table's own (0001), and hold for them as they are.
    """

    dependencies = [("campaigns", "0004_lists_apart")]

    operations = [
        migrations.AddField(
            model_name="template",
            name="header",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="template",
            name="buttons",
            field=models.JSONField(db_default=models.Value([], models.JSONField()), default=list),
        ),
    ]
