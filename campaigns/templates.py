"""Templates: what messages say. The only writer of them, in the current tenant's context."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db import transaction

from campaigns import parts
from campaigns.errors import TemplateNotFound, TooManyTemplates
from campaigns.models import Template
from campaigns.named import Named
from campaigns.parts import Parts

PARTS = ("text", "header", "buttons")  # What campaigns.parts.Parts has; each a column as well.
FIELDS = ("name", *PARTS, "external_name", "language")
_KEPT = Named(Template, FIELDS, TemplateNotFound, TooManyTemplates, "templates_most")


def find(template_id: UUID) -> Template:
    """A template of the current tenant's. Raises TemplateNotFound."""
    return _KEPT.find(template_id)


def create(*, fields: Mapping[str, Any], actor: str) -> Template:
    """Make a template of these FIELDS.

    Raises InvalidTemplate, NameTaken, TooManyTemplates.
    """
    return _KEPT.create(_kept(fields, Parts("")), actor=actor)


def change(*, template_id: UUID, fields: Mapping[str, Any], actor: str) -> Template:
    """Change the named FIELDS and no others.

    Raises TemplateNotFound, InvalidTemplate, NameTaken.
    """
    with transaction.atomic():
        former = _KEPT.find(template_id, lock=True).parts
        return _KEPT.change(template_id, _kept(fields, former), actor=actor)


def delete(*, template_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises TemplateNotFound."""
    _KEPT.delete(template_id, actor=actor)


def _kept(fields: Mapping[str, Any], former: Parts) -> dict[str, Any]:
    """The columns of what is named, which can be beside what is not. Raises InvalidTemplate."""
    given = {name: fields[name] for name in PARTS if name in fields}
    if not given:
        return dict(fields)
    now = replace(former, **given)
    parts.check(now)
    columns = {"header": "", "buttons": []} | now.as_json()
    return {**fields, **{name: columns[name] for name in given}}
