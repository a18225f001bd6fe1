"""Templates: what messages say. The only writer of them, in the current tenant's context.

What a campaign has of a template is its own copy: a template is changed and deleted freely.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from campaigns import variables
from campaigns.errors import NameTaken, TemplateNotFound, TooManyTemplates
from campaigns.models import Template
from tenants import audit
from tenants.context import require_tenant

FIELDS = ("name", "text", "external_name", "language")


def find(template_id: UUID) -> Template:
    """A template of the current tenant's. Raises TemplateNotFound."""
    return _found(template_id, lock=False)


def create(*, fields: Mapping[str, Any], actor: str) -> Template:
    """Make a template of these FIELDS. Raises InvalidTemplate, NameTaken, TooManyTemplates."""
    variables.check_text(fields["text"])
    made = Template(tenant_id=require_tenant().id, **fields)
    try:
        with transaction.atomic():
            _refuse_too_many()
            made.save(force_insert=True)
            _record(made, "template.created", actor, after={"name": made.name})
            made.refresh_from_db()  # The database's own times.
    except IntegrityError as error:
        _explain(error)
        raise
    return made


def change(*, template_id: UUID, fields: Mapping[str, Any], actor: str) -> Template:
    """Change the named FIELDS and no others.

    Raises TemplateNotFound, InvalidTemplate, NameTaken.
    """
    if "text" in fields:
        variables.check_text(fields["text"])
    try:
        with transaction.atomic():
            template = _found(template_id, lock=True)
            before = {"name": template.name}
            for name, value in fields.items():
                setattr(template, name, value)
            template.updated_at = Now()
            template.save(update_fields=[*FIELDS, "updated_at"])
            after = {"name": template.name, "changed": sorted(fields)}
            _record(template, "template.changed", actor, before=before, after=after)
            template.refresh_from_db()
    except IntegrityError as error:
        _explain(error)
        raise
    return template


def delete(*, template_id: UUID, actor: str) -> None:
    """Keep it no longer. Raises TemplateNotFound."""
    with transaction.atomic():
        template = _found(template_id, lock=True)
        template.deleted_at = Now()
        template.save(update_fields=["deleted_at"])
        _record(template, "template.deleted", actor, before={"name": template.name})


def _found(template_id: UUID, *, lock: bool) -> Template:
    rows = Template.objects.filter(pk=template_id, deleted_at=None)
    found = (rows.select_for_update() if lock else rows).first()
    if found is None:
        raise TemplateNotFound
    return found


def _refuse_too_many() -> None:
    """Raises TooManyTemplates. Two at once are counted one after the other."""
    with connection.cursor() as cursor:
        key = f"campaigns_template:{require_tenant().id}"
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])
    most = settings.SLIPWAY["CAMPAIGNS"]["templates_most"]
    if Template.objects.filter(deleted_at=None).count() >= most:
        raise TooManyTemplates(f"There may be {most}.", limit=most)


def _explain(error: IntegrityError) -> None:
    """Raises NameTaken where that is what the database refused."""
    if "template_name" in str(error):
        raise NameTaken from None


def _record(
    template: Template,
    action: str,
    actor: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        actor=actor,
        action=action,
        target=f"template:{template.pk}",
        tenant_id=template.tenant_id,
        before=before,
        after=after,
    )
