import json
import re
from typing import Any

from django.db import migrations, models

# For a while a message's parts were one text, each part behind its mark.
MARKED = re.compile(
    r"(?:\{% header %\}(?P<header>[^\n]*)\n)?\{% body %\}(?P<text>.*?)"
    r"(?P<buttons>(?:\n\{% button [0-9] %\}[^\n]*)*)",
    re.DOTALL,
)
BUTTON = re.compile(r"\n\{% button ([0-9]) %\}([^\n]*)")
LOOKS_MARKED = "%{\\%%\\%}%"  # LIKE.


def apart(said: dict[str, Any]) -> dict[str, Any]:
    """A content, with the parts of its text in keys of their own."""
    found = MARKED.fullmatch(said["text"])
    if found is None:
        return said
    buttons = [{"index": int(n), "url": url} for n, url in BUTTON.findall(found["buttons"])]
    parts = {"header": found["header"], "buttons": buttons}
    return said | {"text": found["text"]} | {name: one for name, one in parts.items() if one}


def take_apart(apps: Any, schema_editor: Any) -> None:
    """Templates, and what campaigns have frozen of them."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("select id, text from campaigns_template where text like %s", [LOOKS_MARKED])
        for id_, text in cursor.fetchall():
            said = {"header": "", "buttons": []} | apart({"text": text})
            cursor.execute(
                "update campaigns_template set text = %s, header = %s, buttons = %s where id = %s",
                [said["text"], said["header"], json.dumps(said["buttons"]), id_],
            )
        cursor.execute(
            "select id, content::text, brief::text, follow_up::text"
            " from campaigns_campaign where content->>'text' like %(marked)s"
            " or brief #>> '{template,text}' like %(marked)s"
            " or follow_up #>> '{template,text}' like %(marked)s",
            {"marked": LOOKS_MARKED},
        )
        for id_, *kept in cursor.fetchall():
            content, brief, follow_up = (None if one is None else json.loads(one) for one in kept)
            if content is not None:
                content = apart(content)
            for holder in (brief, follow_up):
                if holder and "template" in holder:
                    holder["template"] = apart(holder["template"])
            cursor.execute(
                "update campaigns_campaign set content = %s, brief = %s, follow_up = %s"
                " where id = %s",
                [*(None if one is None else json.dumps(one) for one in (content, brief, follow_up)),
                 id_],
            )  # fmt: skip


class Migration(migrations.Migration):
    """A template's header and buttons: columns with a default, so that no row is written again.

    But those that had their parts in their text. Grants and policies are the table's own (0001),
    and hold for the columns as they are.
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
        migrations.RunPython(take_apart, migrations.RunPython.noop),
    ]
