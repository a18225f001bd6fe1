"""Templates: what messages say. The only writer of them, in the current tenant's context.

Header and buttons are kept with the text (campaigns.parts).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db import transaction

from campaigns import parts, variables
from campaigns.errors import InvalidTemplate, TemplateNotFound, TooManyTemplates
from campaigns.models import Template
from campaigns.named import Named
from campaigns.parts import Parts

FIELDS = ("name", "text", "external_name", "language")
PARTS = ("text", "header", "buttons")  # What is kept as the text.
_KEPT = Named(Template, FIELDS, TemplateNotFound, TooManyTemplates, "templates_most")


def find(template_id: UUID) -> Template:
    """A template of the current tenant's. Raises TemplateNotFound."""
    return _KEPT.find(template_id)


def create(*, fields: Mapping[str, Any], actor: str) -> Template:
    """Make a template of these FIELDS and PARTS.

    Raises InvalidTemplate, NameTaken, TooManyTemplates.
    """
    return _KEPT.create(_kept(fields, Parts("")), actor=actor)


def change(*, template_id: UUID, fields: Mapping[str, Any], actor: str) -> Template:
    """Change the named FIELDS and PARTS and no others.

    Raises TemplateNotFound, InvalidTemplate, NameTaken.
    """
    with transaction.atomic():
        former = parts.split(_KEPT.find(template_id, lock=True).text)
        return _KEPT.change(template_id, _kept(fields, former), actor=actor)


def delete(*, template_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises TemplateNotFound."""
    _KEPT.delete(template_id, actor=actor)


def _kept(fields: Mapping[str, Any], former: Parts) -> dict[str, Any]:
    """The columns, with the parts that are not named as they were. Raises InvalidTemplate."""
    columns = {name: value for name, value in fields.items() if name not in PARTS}
    given = {name: fields[name] for name in PARTS if name in fields}
    if not given:
        return columns
    now = replace(former, **given)
    if errors := [*variables.text_errors(now.text, "/text"), *parts.flaws(now)]:
        raise InvalidTemplate(errors=errors)
    text = parts.join(now)
    variables.check_text(text)  # All of it together.
    return columns | {"text": text}
