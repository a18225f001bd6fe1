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


# RFC 9562, 6.2, method 1: the time, a counter of 28 bits, and random bits.
_SERIES = """(left({seed}, 13) || left({count}, 3) || substr({seed}, 17, 1) || right({count}, 4)
  || right({seed}, 11))::uuid"""


def uuid7_series(nth: str, *, seed: str) -> str:
    """SQL for many ids of one statement, ordered by `nth`: an expression that says 1, 2, 3, ….

    `seed` is SQL too, for a `uuid7().hex` of this statement's own: drawing a random number for each
    row is a system call, and costs as much as eight of these.
    """
    return _SERIES.format(seed=seed, count=f"lpad(to_hex({nth}), 7, '0')")


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
