"""Addresses: which words may be one, and how a name becomes one.

A slug is a DNS label (RFC 1123) of 3 to 40 characters. Reserved words, and what looks like one
(`adm1n`), are refused: an address is read by people.
"""

import re
import secrets
import unicodedata
from collections.abc import Iterator
from functools import cache

from django.conf import settings

LEAST, MOST = 3, 40
_SLUG = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]")
_WORD = re.compile(r"\w+", re.UNICODE)
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # Without l, o, 0 and 1, which are misread.

_OURS = """
about abuse account accounts activate admin administrator analytics api app apps assets auth
autoconfig autodiscover beta billing blog careers cdn claim console contact dashboard demo dev
dns docs download email events example faq files forum ftp git graphql health healthz help home
host hostmaster http https imap info internal invite jobs legal local localhost login logout
mail marketing media metrics mobile monitor mx news noreply ns1 ns2 null oauth onboard
onboarding operator owner payment payments pool pop postmaster pricing private prod production
public readyz register root sandbox security server shop sign-in sign-up signin signup slipway
smtp spam sso staff staging static status store stream support sysadmin system team tenant
tenants terms test undefined update upload user users webhook webhooks webmail webmaster www
"""
RESERVED = frozenset(_OURS.split())

# Latin letters that NFKD leaves whole.
_LATIN = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d",
     "þ": "th", "Þ": "th", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "\u0131": "i"}
)  # fmt: skip
_LOOKALIKES = (("rn", "m"), ("vv", "w"), ("cl", "d"))
# Leet: digits are read as letters, and a 1 either way.
_READINGS = tuple(str.maketrans("0134578", f"o{one}eastb") for one in "li")


def flaw(slug: str) -> tuple[str, str] | None:
    """Why `slug` may not be an address: (code, sentence). None when it may."""
    if not slug.isascii():
        return "slug_confusable", "Use the letters a to z, digits and hyphens: others look alike."
    if not _SLUG.fullmatch(slug):
        return (
            "slug_invalid",
            f"Use {LEAST} to {MOST} of a-z, 0-9 and hyphens, a letter first, no hyphen last.",
        )
    if slug[2:4] == "--":  # RFC 5891, 4.2.3.1: kept for encoded names, `xn--` among them.
        return "slug_invalid", "Hyphens in the third and fourth place are reserved."
    if slug in reserved():
        return "slug_reserved", "This word is reserved."
    if not _skeletons(slug).isdisjoint(_reserved_skeletons()):
        return "slug_confusable", "This looks like a reserved word."
    return None


def from_name(name: str) -> str:
    """An address for a tenant whose caller named none.

    Words that are not Latin throughout are left out, since half a word, or a Cyrillic letter
    among Latin ones, misleads; when nothing is left the address is `t-` and chance.
    """
    words = [word for word in map(_latin, _WORD.findall(name)) if word]
    slug = "-".join(words)[:MOST].strip("-")
    if not any(letter.isalpha() for letter in slug):
        return f"t-{_chance(8)}"
    if not slug[0].isalpha():
        slug = f"t-{slug}"[:MOST].strip("-")
    return slug if flaw(slug) is None else with_chance(slug)


def with_chance(slug: str) -> str:
    """The same address with four random characters behind it."""
    return f"{slug.replace('--', '-')[: MOST - 5].strip('-')}-{_chance(4)}"


def suggestions(slug: str) -> list[str]:
    """Addresses near a taken one. The caller checks which are free."""
    near = slug[: MOST - 5].strip("-")
    candidates = [f"{near}-{end}" for end in ("hq", "team", "app", "2", "3")]
    return [*(c for c in candidates if flaw(c) is None), with_chance(near), with_chance(near)]


@cache
def reserved() -> frozenset[str]:
    """The words that no tenant may have: ours, and the project's own."""
    return RESERVED | frozenset(settings.SLIPWAY["RESERVED_SLUGS"])


@cache
def _reserved_skeletons() -> frozenset[str]:
    return frozenset().union(*(_skeletons(word) for word in reserved()))


def _skeletons(slug: str) -> frozenset[str]:
    """What the eye may make of it: `adm1n`, `ad-min` and `admin` share one."""
    seen = slug.replace("-", "")
    for pair, letter in _LOOKALIKES:
        seen = seen.replace(pair, letter)
    return frozenset(seen.translate(reading) for reading in _READINGS)


def _latin(word: str) -> str:
    """The word in a-z and digits; nothing when any of its letters belongs to another script."""
    plain = unicodedata.normalize("NFKD", word.translate(_LATIN))
    kept = "".join(_letters(plain))
    return kept if kept.isascii() else ""


def _letters(text: str) -> Iterator[str]:
    for letter in text.lower():
        if not unicodedata.combining(letter) and letter != "_":
            yield letter


def _chance(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
