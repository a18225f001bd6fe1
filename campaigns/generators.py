"""What makes a campaign's content of its brief: SLIPWAY["GENERATORS"], name → dotted path.

    def generate(brief: Mapping[str, Any], campaign: Campaign) -> Content: …

It runs in a job (campaigns.generating), may take its time and may fail: it is called again then. It
says the same for all recipients, with `{{variables}}` where they differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from campaigns import parts
from campaigns.models import Campaign
from campaigns.parts import Parts

TEXT_MOST = 4096  # Characters.


@dataclass(frozen=True, slots=True)
class Content:
    """What a campaign says; `external_name` is what its provider knows it by, if it must."""

    text: str
    external_name: str = ""
    language: str = "en"
    header: str = ""  # With one variable at most, as a button's URL, by its index, at its end.
    buttons: Mapping[int, str] = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        return Parts(self.text, self.header, self.buttons)

    def as_json(self) -> dict[str, Any]:
        """For Campaign.content."""
        told = {"external_name": self.external_name, "language": self.language}
        return self.parts.as_json() | told


Generator = Callable[[Mapping[str, Any], Campaign], Content]


def generator(name: str) -> Generator:
    """The generator of this name. Raises LookupError."""
    try:
        found: Generator = import_string(settings.SLIPWAY["GENERATORS"][name])
    except KeyError:
        raise LookupError(f"there is no generator {name!r}") from None
    return found


def from_template(brief: Mapping[str, Any], campaign: Campaign) -> Content:
    """The generator `template`: what the template said when the campaign was launched."""
    frozen = brief["template"]
    said = parts.read(frozen)
    return Content(
        said.text,
        frozen["external_name"],
        frozen["language"],
        header=said.header,
        buttons=said.buttons,
    )
