"""Ids as the API shows them: a prefix that says what it is, and a UUID."""

from uuid import UUID

import uuid_utils

from config.problems import NotFoundProblem


class InvalidId(NotFoundProblem):
    """There is no such thing."""

    # A malformed id gets the answer of an unknown one: nothing is there.
    code = "not_found"


def uuid7() -> UUID:
    """A new UUID of version 7: ordered by time, so that index pages fill one after another."""
    return UUID(int=uuid_utils.uuid7().int)


def format_id(prefix: str, uuid: UUID) -> str:
    """The public form: `format_id("tnt", uuid)` is `tnt_018f…`."""
    return f"{prefix}_{uuid}"


def parse_id(prefix: str, text: str) -> UUID:
    """The UUID of a public id, which must be spelled exactly as format_id spells it.

    Raises InvalidId.
    """
    try:
        uuid = UUID(text[len(prefix) + 1 :])
    except ValueError:
        raise InvalidId from None
    if text != format_id(prefix, uuid):
        raise InvalidId
    return uuid
