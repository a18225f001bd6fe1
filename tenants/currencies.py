"""The currency of a tenant's amounts, as ISO 4217 writes it. Nothing is ever converted.

What the platform says of a tenant after its sign-up stands beside its limits (Tenant.limits), where
the platform writes by its key's proof; it goes before what the sign-up said in its `metadata`, and
that before SLIPWAY["CUSTOMERS"]["currency"], which is everybody's.
"""

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings

NAME = "currency"
PATTERN = "^[A-Z]{3}$"
_CODE = re.compile(PATTERN)


def currency_of(*, limits: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """A tenant's; None where nobody has said."""
    for said in (limits.get(NAME), metadata.get(NAME)):
        if isinstance(said, str) and _CODE.fullmatch(said):
            return said
    default: str | None = settings.SLIPWAY["CUSTOMERS"][NAME]
    return default
