"""What the database's own catalogue says of isolation: the audit that no model can argue with."""

from django.db import connections

from tenants.sql import HERE


def findings(*, using: str) -> list[str]:
    """What is wrong with the database's isolation, a sentence each; empty when nothing is."""
    with connections[using].cursor() as cursor:
        cursor.execute((HERE / "faults.sql").read_text(encoding="utf-8"))
        return [sentence for (sentence,) in cursor.fetchall()]
