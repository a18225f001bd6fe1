"""What a tenant may be called, and an address of mail be.

A name goes into mails that we send to strangers: a link in it would make us somebody's spam cannon,
a line break a forged header, and a bidirectional control a name that reads as another.
"""

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator

NAME_LEAST, NAME_MOST = 3, 50
EMAIL_MOST = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets.

_LINK = re.compile(
    r"(?i)://|\bwww\.|\bmailto:|\b[\w-]+\.[\w.-]+/"
    # Words that mail programs turn into links by themselves. `St.Gallen` is none.
    r"|\b[\w-]+\.(?:com|net|org|info|biz|io|co|app|dev|me|xyz|top|click|link|site|online|shop|store|"
    r"live|gg|ly|to|cc|tk|ru|cn|uk|de|eu|us)\b"
)
# Controls, surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Format characters that Persian and Indic words need.
_is_email = EmailValidator()


def tidy(name: str) -> str:
    """The name in NFC, with single spaces: what is stored, shown and counted."""
    return " ".join(unicodedata.normalize("NFC", name).split(" ")).strip()


def name_flaw(name: str) -> tuple[str, str] | None:
    """Why a tenant may not be called so: (code, sentence). None when it may."""
    if any(_is_unseen(letter) for letter in name):
        return "name_invalid", "It has control or direction characters in it."
    if not NAME_LEAST <= len(tidy(name)) <= NAME_MOST:
        return "name_length", f"Use {NAME_LEAST} to {NAME_MOST} characters."
    if _LINK.search(name):
        return "name_has_link", "A name cannot hold a web address."
    if not any(letter.isalnum() for letter in name):
        return "name_invalid", "Use at least one letter or digit."
    return None


def email_flaw(email: str) -> tuple[str, str] | None:
    """Why mail cannot go there: (code, sentence). None when it can."""
    if len(email) > EMAIL_MOST:
        return "email_length", f"Use at most {EMAIL_MOST} characters."
    try:
        _is_email(email)
    except ValidationError:
        return "email_invalid", "This is not an e-mail address."
    return None


def email_domain(email: str) -> str:
    """The domain of a valid address, in lower case."""
    return email.rpartition("@")[2].lower()


def _is_unseen(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category in _UNSEEN or (category == "Cf" and letter not in _JOINERS)
