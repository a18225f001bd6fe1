"""A message's parts: its text, and the header and the URL buttons that providers send apart.

They are kept as one text, which what goes by it (which variables there are, what is missing, how
long it is) need not know of. A text of nothing but itself is kept as it is; else each part begins
with its mark, at the beginning of a line:

    {% header %}Order {{ order }}
    {% body %}Hello {{ name }}, it is on its way.
    {% button 0 %}https://shop.example/orders/{{ code }}
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote

from campaigns import variables
from campaigns.variables import TEXT_MOST, CannotRender
from config.problems import FieldError
from config.spelling import is_unseen

HEADER_MOST = 60  # Characters without its variable: WhatsApp's own limit, as the next three are.
BUTTONS_MOST = 10
URL_MOST = 2000  # Characters.
_ONE = 1  # Variable of a header, and of a button.

_KEPT = re.compile(
    r"(?:\{% header %\}(?P<header>[^\n]*)\n)?\{% body %\}(?P<text>.*?)"
    r"(?P<buttons>(?:\n\{% button [0-9] %\}[^\n]*)*)",
    re.DOTALL,
)
_BUTTON = re.compile(r"\n\{% button ([0-9]) %\}([^\n]*)")
_MARK = re.compile(r"^\{%", re.MULTILINE)
_URL = re.compile(r"https?://[^\s{}]+(?:\{\{[ \t]*[A-Za-z0-9_]{1,50}[ \t]*\}\})?")
# What may stand in a path or a query; what is encoded already stays so.
_SAFE = "%/?&=#:@!$'()*+,;~-._"


@dataclass(frozen=True, slots=True)
class Parts:
    """`buttons` are the URLs of those buttons that have one, by their index among all."""

    text: str
    header: str = ""
    buttons: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


def join(parts: Parts) -> str:
    """As it is kept."""
    if not parts.header and not parts.buttons:
        return parts.text
    header = f"{{% header %}}{parts.header}\n" if parts.header else ""
    buttons = "".join(f"\n{{% button {n} %}}{url}" for n, url in sorted(parts.buttons.items()))
    return f"{header}{{% body %}}{parts.text}{buttons}"


@lru_cache(maxsize=1024)
def split(kept: str) -> Parts:
    """The parts of a text that is kept so."""
    found = _KEPT.fullmatch(kept)
    if found is None:
        return Parts(kept)
    buttons = {int(number): url for number, url in _BUTTON.findall(found["buttons"])}
    return Parts(found["text"], found["header"] or "", MappingProxyType(buttons))


def flaws(parts: Parts) -> Iterator[FieldError]:
    """What is wrong with the header and the buttons, and with the text beside them."""
    if _MARK.search(parts.text):
        message = "A line may not begin with {%: that marks a message's parts."
        yield FieldError("/text", "reserved", message)
    if parts.header:
        yield from _header_flaws(parts.header)
    if len(parts.buttons) > BUTTONS_MOST or any(not 0 <= n < BUTTONS_MOST for n in parts.buttons):
        message = f"At most {BUTTONS_MOST} buttons, of the indexes 0 to {BUTTONS_MOST - 1}."
        yield FieldError("/buttons", "too_many", message)
    for place, url in enumerate(parts.buttons.values()):
        yield from _url_flaws(url, f"/buttons/{place}/url")


def _header_flaws(header: str) -> Iterator[FieldError]:
    yield from variables.text_errors(header, "/header")
    if any(map(is_unseen, header)):
        message = "It has invisible or control characters in it."
        yield FieldError("/header", "unseen_character", message)
    if len(variables.bare(header)) > HEADER_MOST:
        message = f"At most {HEADER_MOST} characters besides its variable."
        yield FieldError("/header", "too_long", message)
    if len(variables.names(header)) > _ONE:
        yield FieldError("/header", "too_many", "At most one variable.")


def _url_flaws(url: str, place: str) -> Iterator[FieldError]:
    if len(url) > URL_MOST:
        yield FieldError(place, "too_long", f"At most {URL_MOST} characters.")
    elif not _URL.fullmatch(url) or any(map(is_unseen, url)):
        message = "Write it like https://shop.example/orders/{{ code }}: a variable at its end."
        yield FieldError(place, "invalid_url", message)


def url_value(said: str) -> str:
    """What a variable says, as it may stand in a URL."""
    return quote(said.strip(), safe=_SAFE)


def render(kept: str, params: Mapping[str, str]) -> str:
    """All of a message as one text, for providers that know of no parts: a paragraph for each.

    Raises CannotRender.
    """
    parts = split(kept)
    if not parts.header and not parts.buttons:
        return variables.render(parts.text, params)
    header = [variables.render(parts.header, params)] if parts.header else []
    in_urls = {name: url_value(said) for name, said in params.items() if isinstance(said, str)}
    urls = [variables.render(url, in_urls) for _, url in sorted(parts.buttons.items())]
    made = "\n\n".join([*header, variables.render(parts.text, params), *urls])
    if len(made) > TEXT_MOST:
        raise CannotRender(f"The message has {len(made)} characters; at most {TEXT_MOST} are sent.")
    return made
