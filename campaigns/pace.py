"""How fast an account may be sent to: what its tenant declared of it."""

from collections.abc import Mapping
from typing import Any

from jobs.pacing import Declared


def pace_of(data: Mapping[str, Any]) -> Declared:
    """What is declared of the account of a message, by what its claim carries.

    All of an account's campaigns share it, and so do all drainers.
    """
    return Declared(data["rate"], data["max_in_flight"], data["mode"] or "adaptive")
