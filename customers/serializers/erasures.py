"""What an erasure looks like outside, and what its API takes."""

from collections.abc import Iterator
from typing import Any, TypedDict

from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from customers.models import Erasure
from tenants.serializers import Because


class ErasureWish(Because, forbid_unknown_fields=True, kw_only=True):
    """Why, for the audit trail: name nobody in it. `suppress` keeps the number from campaigns."""

    suppress: bool = False

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from Because.flaws(read)


class ErasureAnswer(TypedDict):
    """An erasure; `records` is how many were deleted or emptied so far."""

    id: str
    customer_id: str
    status: str
    suppress: bool
    records: int
    created_at: Moment
    finished_at: Moment | None


def erasure_as_json(found: Erasure, *, stuck: bool = False) -> ErasureAnswer:
    return {
        "id": format_id("era", found.pk),
        "customer_id": format_id("cus", found.customer_id),
        "status": "stuck" if stuck else found.status,
        "suppress": found.suppress,
        "records": sum(found.erased.values()),
        "created_at": found.created_at,
        "finished_at": found.finished_at,
    }
