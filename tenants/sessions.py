"""Signed-in browsers. A session belongs to one tenant, or to the console.

settings.SESSION_ENGINE names this module. Rows are found under row-level security, so that a cookie
of one tenant's host means nothing on another's; the row holds a hash of the cookie's value, so that
reading the table signs nobody in.
"""

import hashlib
from typing import Any

from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from tenants.context import current_tenant_id
from tenants.models import Session
from tenants.routers import as_operator, is_operator


class SessionStore(SessionBase):
    """The sessions of the current tenant; as operator, the console's.

    On the platform's own pages there is neither: nothing is found there and nothing is kept.
    """

    def load(self) -> dict[str, Any]:
        row = self._row(self.session_key).filter(expire_date__gt=timezone.now()).first()
        if row is None:
            self._session_key = None
            return {}
        data: dict[str, Any] = self.decode(row.session_data)
        return data

    def exists(self, session_key: str) -> bool:
        return self._row(session_key).exists()

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        _refuse_homeless()
        data = self.encode(self._get_session(no_load=must_create))  # type: ignore[attr-defined]
        if must_create:
            self._insert(data)
        elif not self._row(self.session_key).update(
            session_data=data, expire_date=self.get_expiry_date()
        ):
            raise UpdateError  # It was ended meanwhile, by logout or an operator.

    def delete(self, session_key: str | None = None) -> None:
        self._row(session_key or self.session_key).delete()

    @classmethod
    def clear_expired(cls) -> None:
        """Delete what has ended, the console's too. Needs the operator's URL."""
        with as_operator():
            Session.objects.filter(expire_date__lt=timezone.now()).delete()

    def _insert(self, data: str) -> None:
        row = Session(
            session_key=_stored(self.session_key),
            session_data=data,
            expire_date=self.get_expiry_date(),
            tenant_id=None if is_operator() else current_tenant_id(),
        )
        try:
            with transaction.atomic(using=router.db_for_write(Session)):
                row.save(force_insert=True)
        except IntegrityError as error:
            raise CreateError from error

    @staticmethod
    def _row(session_key: str | None) -> QuerySet[Session]:
        """At most one row. As operator RLS does not bind: the console's sessions have no tenant."""
        if session_key is None or _is_homeless():
            return Session.objects.none()
        rows = Session.objects.filter(session_key=_stored(session_key))
        return rows.filter(tenant=None) if is_operator() else rows


def _stored(session_key: str | None) -> str:
    """What the table holds of a cookie: 160 bits of its hash."""
    return hashlib.sha256((session_key or "").encode()).hexdigest()[:40]


def _is_homeless() -> bool:
    return current_tenant_id() is None and not is_operator()


def _refuse_homeless() -> None:
    if _is_homeless():
        raise UpdateError("The platform's own pages keep no sessions.")
