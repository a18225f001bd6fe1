"""A message's parts: its text, and the header and the URL buttons that providers send apart."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from campaigns import variables
from campaigns.errors import InvalidTemplate
from campaigns.variables import TEXT_MOST, CannotRender
from config.problems import FieldError
from config.spelling import is_unseen

HEADER_MOST = 60  # Characters without its variable: WhatsApp's own limit, as the next three are.
BUTTONS_MOST = 10
URL_MOST = 2000  # Characters.
_ONE = 1  # Variable of a header, and of a button.

_URL = re.compile(r"https?://[^\s{}]+(?:\{\{[ \t]*[A-Za-z0-9_]{1,50}[ \t]*\}\})?")
# What may stand in a path or a query; what is encoded already stays so.
_SAFE = "%/?&=#:@!$'()*+,;~-._"


@dataclass(frozen=True, slots=True)
class Parts:
    """`buttons` are the URLs of those buttons that have one, by their index among all."""

    text: str
    header: str = ""
    buttons: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def whole(self) -> str:
        """All of it as one text, a paragraph for each part: what limits and variables go by."""
        header = [self.header] if self.header else []
        return "\n\n".join([*header, self.text, *(url for _, url in sorted(self.buttons.items()))])

    def as_json(self) -> dict[str, Any]:
        """As it is kept: what there is none of is left out."""
        buttons = [{"index": index, "url": url} for index, url in sorted(self.buttons.items())]
        said = {"text": self.text, "header": self.header, "buttons": buttons}
        return {name: one for name, one in said.items() if name == "text" or one}


def read(kept: Mapping[str, Any]) -> Parts:
    """The parts of a campaign's content, or of a template, as they are kept."""
    buttons = {button["index"]: button["url"] for button in kept.get("buttons", ())}
    return Parts(kept["text"], kept.get("header", ""), MappingProxyType(buttons))


def check(said: Parts) -> None:
    """Raises InvalidTemplate with everything that is wrong with it."""
    if errors := [*variables.text_errors(said.text, "/text"), *flaws(said)]:
        raise InvalidTemplate(errors=errors)
    variables.check_text(said.whole)


def flaws(said: Parts) -> Iterator[FieldError]:
    """What is wrong with the header and the buttons."""
    if said.header:
        yield from _header_flaws(said.header)
    if len(said.buttons) > BUTTONS_MOST or any(not 0 <= n < BUTTONS_MOST for n in said.buttons):
        message = f"At most {BUTTONS_MOST} buttons, of the indexes 0 to {BUTTONS_MOST - 1}."
        yield FieldError("/buttons", "too_many", message)
    for place, url in enumerate(said.buttons.values()):
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


def render(said: Parts, params: Mapping[str, str]) -> str:
    """All of a message as one text, for providers that know of no parts.

    Raises CannotRender.
    """
    text = variables.render(said.text, params)
    header = variables.render(said.header, params)
    buttons: dict[int, str] = {}
    if said.buttons:
        in_urls = {name: url_value(told) for name, told in params.items() if isinstance(told, str)}
        buttons = {n: variables.render(url, in_urls) for n, url in said.buttons.items()}
    made = Parts(text, header, buttons).whole
    if len(made) > TEXT_MOST:
        raise CannotRender(f"The message has {len(made)} characters; at most {TEXT_MOST} are sent.")
    return made
