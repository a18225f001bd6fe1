"""What an export looks like outside, and what its API takes."""

from typing import TypedDict

import msgspec

from config.ids import format_id
from config.moments import Moment
from customers.models import Export, Import


class ExportWish(msgspec.Struct, forbid_unknown_fields=True):
    """In which form."""

    format: Import.Format = Import.Format.CSV


class ExportAnswer(TypedDict):
    """An export; `file_url` is null until it is finished."""

    id: str
    status: str
    format: str
    rows: int
    bytes: int
    file_url: str | None
    created_at: Moment
    finished_at: Moment | None


def export_as_json(found: Export, *, stuck: bool = False) -> ExportAnswer:
    shown = format_id("exp", found.pk)
    return {
        "id": shown,
        "status": "stuck" if stuck else found.status,
        "format": found.format,
        "rows": found.rows,
        "bytes": found.size,
        "file_url": f"/v1/customers/exports/{shown}/file" if found.finished_at else None,
        "created_at": found.created_at,
        "finished_at": found.finished_at,
    }
