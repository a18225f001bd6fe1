"""What a template looks like outside, and what its API takes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from campaigns import parts, variables
from campaigns.models import Template
from campaigns.preview import Said
from campaigns.serializers.segments import Id, Name, name_flaws
from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw

Text = Annotated[str, Meta(max_length=variables.TEXT_MOST)]
Header = Annotated[str, Meta(max_length=200)]
ExternalName = Annotated[str, Meta(max_length=512)]
# As providers write them: en, en_US, pt-BR, zh_Hant_TW.
Language = Annotated[
    str, Meta(max_length=15, pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}$")
]


class Button(msgspec.Struct, forbid_unknown_fields=True):
    """A button that opens a URL, by its index among all buttons; its variable stands at the end."""

    index: Annotated[int, Meta(ge=0, lt=parts.BUTTONS_MOST)]
    url: Annotated[str, Meta(max_length=parts.URL_MOST)]


class TemplateChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is.

    `external_name` is what the provider knows the template by, where it must be approved there.
    An empty `header`, and `buttons` that are an empty list, are none.
    """

    name: Name | UnsetType = UNSET
    text: Text | UnsetType = UNSET
    header: Header | UnsetType = UNSET
    buttons: Annotated[list[Button], Meta(max_length=parts.BUTTONS_MOST)] | UnsetType = UNSET
    external_name: ExternalName | UnsetType = UNSET
    language: Language | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from name_flaws(read.name)
        if isinstance(read.text, str):
            yield from variables.text_errors(read.text, "/text")
        yield from _part_flaws(read)
        for name in ("name", "external_name", "language"):
            value = getattr(read, name)
            if isinstance(value, str) and ("\n" in value or "\t" in value or "\r" in value):
                yield FieldError(f"/{name}", "control_character", "It has line breaks in it.")
        if isinstance(read.external_name, str) and (flaw := unseen_flaw(read.external_name)):
            yield FieldError("/external_name", *flaw)

    def fields(self) -> dict[str, Any]:
        """What `campaigns.templates` takes: the fields that the body names."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        said = {name: value for name, value in given.items() if value is not UNSET}
        if "buttons" in said:
            said["buttons"] = {button.index: button.url for button in said["buttons"]}
        return said


class TemplateWish(TemplateChange, kw_only=True):
    """The body of POST: a template that is to be."""

    name: Name
    text: Text


class RenderWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a rendering: for whom, and where the variables come from."""

    customer_id: Id
    variables: dict[str, Any] = {}


class ButtonAnswer(TypedDict):
    """A button that opens a URL."""

    index: int
    url: str


class TemplateAnswer(TypedDict):
    """What messages say; `variables` are those that its header, text and buttons name."""

    id: str
    name: str
    text: str
    header: str
    buttons: list[ButtonAnswer]
    variables: list[str]
    external_name: str
    language: str
    created_at: Moment
    updated_at: Moment


class RenderedAnswer(TypedDict):
    """What a message would say to one customer; `missing` is why there would be none."""

    text: str | None
    variables: dict[str, str | None]
    missing: str | None


def template_as_json(template: Template) -> TemplateAnswer:
    said = template.parts
    return {
        "id": format_id("tpl", template.pk),
        "name": template.name,
        "text": said.text,
        "header": said.header,
        "buttons": buttons_as_json(said),
        "variables": variables.names(said.whole),
        "external_name": template.external_name,
        "language": template.language,
        "created_at": template.created_at,
        "updated_at": template.updated_at,
    }


def buttons_as_json(said: parts.Parts) -> list[ButtonAnswer]:
    return [{"index": index, "url": url} for index, url in sorted(said.buttons.items())]


def rendered_as_json(said: Said) -> RenderedAnswer:
    params: Mapping[str, str | None] = said.params
    return {"text": said.text, "variables": dict(params), "missing": said.missing}


def _part_flaws(read: Any) -> Iterator[FieldError]:
    """What is wrong with the parts that the body names."""
    header = read.header if isinstance(read.header, str) else ""
    buttons = read.buttons if isinstance(read.buttons, list) else []
    whole = [one for one in buttons if isinstance(getattr(one, "url", None), str)]
    seen: set[Any] = set()
    for place, button in enumerate(buttons):
        index = getattr(button, "index", None)
        if index in seen:
            message = "There are two buttons of this index."
            yield FieldError(f"/buttons/{place}/index", "duplicate", message)
        seen.add(index)
    if len(whole) == len(buttons):
        yield from parts.flaws(parts.Parts("", header, {n: b.url for n, b in enumerate(whole)}))
