"""What a tenant keeps under a name of its own: segments and templates.

What a campaign has of either is its own copy: both are changed and deleted freely. Each service
checks what it keeps, and then comes here; all of it runs in the current tenant's context.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from campaigns.errors import NameTaken
from campaigns.models import Segment, Template
from config.problems import Problem
from tenants import audit
from tenants.context import require_tenant

Kept = TypeVar("Kept", Segment, Template)


@dataclass(frozen=True)
class Named(Generic[Kept]):
    """One sort of such things; `limit` names how many there may be in SLIPWAY["CAMPAIGNS"]."""

    model: type[Kept]
    fields: Collection[str]
    not_found: type[Problem]
    too_many: type[Problem]
    limit: str

    @property
    def word(self) -> str:
        """What one is called."""
        return str(self.model._meta.model_name)

    def find(self, id_: UUID, *, lock: bool = False) -> Kept:
        """One of the current tenant's. Raises `not_found`."""
        rows = self.model._default_manager.filter(pk=id_, deleted_at=None)
        found = (rows.select_for_update() if lock else rows).first()
        if found is None:
            raise self.not_found
        return found

    def create(self, fields: Mapping[str, Any], *, actor: str) -> Kept:
        """Keep one more. Raises NameTaken, `too_many`."""
        made = self.model(tenant_id=require_tenant().id, **fields)
        try:
            with transaction.atomic():
                self._refuse_too_many()
                made.save(force_insert=True)
                self._record(made, "created", actor, after={"name": made.name})
                made.refresh_from_db()  # The database's own times.
        except IntegrityError as error:
            self._explain(error)
            raise
        return made

    def change(self, id_: UUID, fields: Mapping[str, Any], *, actor: str) -> Kept:
        """Change the named fields and no others. Raises `not_found`, NameTaken."""
        try:
            with transaction.atomic():
                found = self.find(id_, lock=True)
                before = {"name": found.name}
                for name, value in fields.items():
                    setattr(found, name, value)
                found.updated_at = Now()
                found.save(update_fields=[*self.fields, "updated_at"])
                after = {"name": found.name, "changed": sorted(fields)}
                self._record(found, "changed", actor, before=before, after=after)
                found.refresh_from_db()
        except IntegrityError as error:
            self._explain(error)
            raise
        return found

    def delete(self, id_: UUID, *, actor: str) -> None:
        """Keep it no longer. Raises `not_found`."""
        with transaction.atomic():
            found = self.find(id_, lock=True)
            found.deleted_at = Now()
            found.save(update_fields=["deleted_at"])
            self._record(found, "deleted", actor, before={"name": found.name})

    def _refuse_too_many(self) -> None:
        """Two at once are counted one after the other."""
        with connection.cursor() as cursor:
            key = f"campaigns_{self.word}:{require_tenant().id}"
            cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 7))", [key])
        most = settings.SLIPWAY["CAMPAIGNS"][self.limit]
        if self.model._default_manager.filter(deleted_at=None).count() >= most:
            raise self.too_many(f"There may be {most}.", limit=most)

    def _explain(self, error: IntegrityError) -> None:
        """Raises NameTaken where that is what the database refused."""
        if f"{self.word}_name" in str(error):
            raise NameTaken from None

    def _record(
        self,
        one: Kept,
        done: str,
        actor: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        # Nothing of what it says: that may be somebody's name or number.
        audit.record(
            actor=actor,
            action=f"{self.word}.{done}",
            target=f"{self.word}:{one.pk}",
            tenant_id=one.tenant_id,
            before=before,
            after=after,
        )
