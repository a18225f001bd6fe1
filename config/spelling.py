"""What strangers' texts may be spelled with, and what an address of mail is.

A bidirectional control makes a name read as another, a zero-width character makes two names look
the same; either lies to the operator who looks at it.
"""

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator

EMAIL_MOST = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets.
LOCAL_PART_MOST = 64  # Octets before the @: RFC 5321, 4.5.3.1.1.

# Controls, surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Format characters that Persian and Indic words need.
_is_email = EmailValidator()
# What nearly all addresses look like: the validator takes each of these, at several times the cost.
_PLAIN_EMAIL = re.compile(r"\w+(?:[.+-]\w+)*@(?:[a-z0-9]{1,60}\.)+[a-z]{2,60}", re.ASCII)

Flaw = tuple[str, str] | None  # A code and a sentence; None where nothing is wrong.


def is_unseen(letter: str) -> bool:
    """Whether a character shows nothing, or changes how others are shown."""
    category = unicodedata.category(letter)
    return category in _UNSEEN or (category == "Cf" and letter not in _JOINERS)


def seen(text: str) -> str:
    """The text without its unseen characters."""
    return "".join(letter for letter in text if not is_unseen(letter))


def unseen_flaw(text: str) -> Flaw:
    """Why a text cannot be shown as it is."""
    if not text.isascii() and any(is_unseen(letter) for letter in text):
        return "unseen_character", "It has invisible or direction characters in it."
    return None


def email_flaw(email: str) -> Flaw:
    """Why mail cannot go there."""
    if len(email) <= LOCAL_PART_MOST and _PLAIN_EMAIL.fullmatch(email):
        return None
    if len(email) > EMAIL_MOST or len(email.rpartition("@")[0].encode()) > LOCAL_PART_MOST:
        return "email_length", f"Use at most {LOCAL_PART_MOST} characters before the @," + (
            f" {EMAIL_MOST} in all."
        )
    if _PLAIN_EMAIL.fullmatch(email):
        return None
    try:
        _is_email(email)
    except ValidationError:
        return "email_invalid", "This is not an e-mail address."
    return None
