"""What a tenant may be called.

A name goes into mails that we send to strangers: a link in it would make us somebody's spam cannon,
a line break a forged header, and a bidirectional control a name that reads as another.
"""

import re
import unicodedata

from config.spelling import is_unseen

NAME_LEAST, NAME_MOST = 3, 50

_LINK = re.compile(
    r"(?i)://|\bwww\.|\bmailto:|\b[\w-]+\.[\w.-]+/"
    # Words that mail programs turn into links by themselves. `St.Gallen` is none.
    r"|\b[\w-]+\.(?:com|net|org|info|biz|io|co|app|dev|me|xyz|top|click|link|site|online|shop|store|"
    r"live|gg|ly|to|cc|tk|ru|cn|uk|de|eu|us)\b"
)


def tidy(name: str) -> str:
    """The name in NFC, with single spaces: what is stored, shown and counted."""
    return " ".join(unicodedata.normalize("NFC", name).split(" ")).strip()


def name_flaw(name: str) -> tuple[str, str] | None:
    """Why a tenant may not be called so: (code, sentence). None when it may."""
    if any(is_unseen(letter) for letter in name):
        return "name_invalid", "It has control or direction characters in it."
    if not NAME_LEAST <= len(tidy(name)) <= NAME_MOST:
        return "name_length", f"Use {NAME_LEAST} to {NAME_MOST} characters."
    if _LINK.search(name):
        return "name_has_link", "A name cannot hold a web address."
    if not any(letter.isalnum() for letter in name):
        return "name_invalid", "Use at least one letter or digit."
    return None


def email_domain(email: str) -> str:
    """The domain of a valid address, in lower case."""
    return email.rpartition("@")[2].lower()
