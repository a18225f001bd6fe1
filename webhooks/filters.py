"""Which events an endpoint hears: names of types, and prefixes such as `invoice.*`."""

import re

from config.spelling import Flaw

_FILTER = re.compile(r"[a-zA-Z0-9_]+(?:\.[a-zA-Z0-9_]+)*(?:\.\*)?")


def flaw(text: str) -> Flaw:
    """Why this is neither a type's name nor a prefix: a code and a sentence."""
    if not _FILTER.fullmatch(text):
        return "invalid_filter", "Use a type such as invoice.paid, or a prefix such as invoice.*"
    return None


def matching(type_name: str) -> list[str]:
    """Every filter that lets this type through, the empty one apart."""
    parts = type_name.split(".")
    return [type_name, *(".".join(parts[:n]) + ".*" for n in range(1, len(parts)))]
