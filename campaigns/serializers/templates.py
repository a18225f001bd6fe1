"""What a template looks like outside, and what its API takes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, UnsetType

from campaigns import variables
from campaigns.models import Template
from campaigns.preview import Said
from campaigns.serializers.segments import Id, Name, name_flaws
from config.ids import format_id
from config.moments import Moment
from config.problems import FieldError
from config.spelling import unseen_flaw

Text = Annotated[str, Meta(max_length=variables.TEXT_MOST)]
ExternalName = Annotated[str, Meta(max_length=512)]
# As providers write them: en, en_US, pt-BR, zh_Hant_TW.
Language = Annotated[
    str, Meta(max_length=15, pattern=r"^[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8}){0,2}$")
]


class TemplateChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of PATCH: what is left out stays as it is.

    `external_name` is what the provider knows the template by, where it must be approved there.
    """

    name: Name | UnsetType = UNSET
    text: Text | UnsetType = UNSET
    external_name: ExternalName | UnsetType = UNSET
    language: Language | UnsetType = UNSET

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from name_flaws(read.name)
        if isinstance(read.text, str):
            yield from variables.text_errors(read.text, "/text")
        for name in ("name", "external_name", "language"):
            value = getattr(read, name)
            if isinstance(value, str) and ("\n" in value or "\t" in value or "\r" in value):
                yield FieldError(f"/{name}", "control_character", "It has line breaks in it.")
        if isinstance(read.external_name, str) and (flaw := unseen_flaw(read.external_name)):
            yield FieldError("/external_name", *flaw)

    def fields(self) -> dict[str, Any]:
        """What `campaigns.templates` takes: the fields that the body names."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in given.items() if value is not UNSET}


class TemplateWish(TemplateChange, kw_only=True):
    """The body of POST: a template that is to be."""

    name: Name
    text: Text


class RenderWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a rendering: for whom, and where the variables come from."""

    customer_id: Id
    variables: dict[str, Any] = {}


class TemplateAnswer(TypedDict):
    """What messages say; `variables` are those that its text names."""

    id: str
    name: str
    text: str
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
    return {
        "id": format_id("tpl", template.pk),
        "name": template.name,
        "text": template.text,
        "variables": variables.names(template.text),
        "external_name": template.external_name,
        "language": template.language,
        "created_at": template.created_at,
        "updated_at": template.updated_at,
    }


def rendered_as_json(said: Said) -> RenderedAnswer:
    params: Mapping[str, str | None] = said.params
    return {"text": said.text, "variables": dict(params), "missing": said.missing}
