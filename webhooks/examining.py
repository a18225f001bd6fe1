"""What the doctor looks at in stored secrets: whether each can still be read, and by which key."""

from collections.abc import Iterator

from django.conf import settings

from config.doctor import Finding, fail, ok, warn
from webhooks import rings


def look_at_secrets() -> Iterator[Finding]:
    """Every stored secret, opened by the ring; counted by key."""
    counts = rings.count_by_key()
    total, lost = counts.total(), counts[None]
    if lost:
        yield fail(
            f"{lost} of {total} stored secrets no key of STORED_SECRET_KEYS opens: what needs them"
            " fails.",
            "Put the key back, last in the list. If it is gone, their owners must set them anew.",
        )
    by_key = ", ".join(
        f"key {nth + 1}: {counts[nth]}" for nth in range(len(settings.STORED_SECRET_KEYS))
    )
    if len(settings.STORED_SECRET_KEYS) > 1:
        yield warn(
            f"{total} stored secrets; {by_key}.",
            "Finish what was begun: manage.py rotate-keys stored, and then --finish",
        )
    elif not lost:
        yield ok(f"{total} stored secrets; {by_key}.")
