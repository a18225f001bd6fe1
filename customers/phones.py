"""Phone numbers in one form: E.164."""

import re
from functools import cache, lru_cache
from typing import NamedTuple

import phonenumbers

_PLAIN = re.compile(r"\+[1-9][0-9]{6,14}")


class InvalidPhone(ValueError):
    """It is no phone number, or could be one in several countries."""


def normalise(text: str) -> str:
    """`+49 30 123456` as `+4930123456`. The country code must be there: +… or 00….

    Raises InvalidPhone.
    """
    return text if _is_normal(text) else _parsed(text)


def _parsed(text: str) -> str:
    number = "+" + text.strip()[2:] if text.strip().startswith("00") else text.strip()
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        raise InvalidPhone(text) from None
    if not phonenumbers.is_possible_number(parsed):
        raise InvalidPhone(text)
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


class _Plan(NamedTuple):
    """What a country's plan says of its numbers: their lengths, and how none of them begins."""

    lengths: frozenset[int]
    prefix: re.Pattern[str]


@lru_cache(maxsize=64)  # Each is asked for twice: to be judged, and to be stored.
def _is_normal(text: str) -> bool:
    """Whether parsing would surely give back the text itself.

    A twentieth of what parsing costs, which is most of what the row of an import does. Whatever is
    not as plain as that is parsed.
    """
    if not _PLAIN.fullmatch(text):
        return False
    for digits in (1, 2, 3):
        plan = _plan(text[1 : 1 + digits])
        if plan is not None:
            national = text[1 + digits :]
            return len(national) in plan.lengths and not plan.prefix.match(national)
    return False


@cache
def _plan(digits: str) -> _Plan | None:
    """The plan of a calling code, None when nobody has it. There are fewer than 1,000."""
    country_code = int(digits)
    region = phonenumbers.region_code_for_country_code(country_code)
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    if metadata is None or metadata.general_desc is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    # A leading zero is kept in some countries and dropped in others: parsed, all of them.
    return _Plan(
        frozenset(metadata.general_desc.possible_length),
        re.compile(f"0|(?:{prefix})" if prefix else "0"),
    )
