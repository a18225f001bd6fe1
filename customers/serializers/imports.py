"""What an import looks like outside, and what a row of its file may say."""

from collections.abc import Sequence
from typing import Any, TypedDict

from msgspec import UNSET

from config.api import decode_json
from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError, Problem
from customers.models import Import
from customers.serializers.customers import CustomerChange

REASON_MOST = 500


class ImportedCustomer(CustomerChange, forbid_unknown_fields=True, omit_defaults=True):
    """One row: a customer by its external_id, which a second import finds again."""

    @staticmethod
    def flaws(read: Any) -> Sequence[FieldError]:
        """What the types cannot say."""
        if read.external_id is UNSET or read.external_id is None:
            return [
                FieldError("/external_id", "required", "Required."),
                *CustomerChange.flaws(read),
            ]
        return CustomerChange.flaws(read)


class ImportAnswer(TypedDict):
    """An import; its counts are of rows. What is `unchanged` said what was known already.

    It is `stuck` when its job is dead: an operator sees that, and may have it go on.
    """

    id: str
    status: str
    format: str
    bytes: int
    done_bytes: int
    read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    error: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


def import_as_json(found: Import, *, stuck: bool = False) -> ImportAnswer:
    return {
        "id": format_id("imp", found.pk),
        "status": "stuck" if stuck else found.status,
        "format": found.format,
        "bytes": found.size,
        "done_bytes": found.place,
        "read": found.read,
        "created": found.created,
        "updated": found.updated,
        "unchanged": found.unchanged,
        "rejected": found.rejected,
        "error": found.error,
        "created_at": found.created_at,
        "started_at": found.started_at,
        "finished_at": found.finished_at,
    }


def fields_of(body: bytes) -> dict[str, Any]:
    """The fields of a row's JSON, as the API reads them.

    Raises Problem; `reason_of` says it in a line.
    """
    return decode_json(body, ImportedCustomer).fields()


def reason_of(problem: Problem) -> str:
    """Why a row is not taken, in one line."""
    told = [" ".join(filter(None, (error.pointer, error.message))) for error in problem.errors]
    text = "; ".join(told) or problem.detail or problem.title()
    return text if len(text) <= REASON_MOST else f"{text[: REASON_MOST - 1]}…"
