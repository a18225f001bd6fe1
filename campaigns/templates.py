"""Templates: what messages say. The only writer of them, in the current tenant's context."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from campaigns import variables
from campaigns.errors import TemplateNotFound, TooManyTemplates
from campaigns.models import Template
from campaigns.named import Named

FIELDS = ("name", "text", "external_name", "language")
_KEPT = Named(Template, FIELDS, TemplateNotFound, TooManyTemplates, "templates_most")


def find(template_id: UUID) -> Template:
    """A template of the current tenant's. Raises TemplateNotFound."""
    return _KEPT.find(template_id)


def create(*, fields: Mapping[str, Any], actor: str) -> Template:
    """Make a template of these FIELDS. Raises InvalidTemplate, NameTaken, TooManyTemplates."""
    variables.check_text(fields["text"])
    return _KEPT.create(fields, actor=actor)


def change(*, template_id: UUID, fields: Mapping[str, Any], actor: str) -> Template:
    """Change the named FIELDS and no others.

    Raises TemplateNotFound, InvalidTemplate, NameTaken.
    """
    if "text" in fields:
        variables.check_text(fields["text"])
    return _KEPT.change(template_id, fields, actor=actor)


def delete(*, template_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises TemplateNotFound."""
    _KEPT.delete(template_id, actor=actor)
