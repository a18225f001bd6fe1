"""The ring that signs the tenant context: CONTEXT_KEY here, slipway.context_key in the database.

A process signs with one key, the database accepts those that the owner put there. So a new key is
accepted before anybody has it, and there is one step less than in other rings.
"""

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import connections
from django.utils import timezone

from tenants.postgres import token
from tenants.postgres.base import TOKEN_SECONDS
from tenants.postgres.keys import drop_context_keys, install_context_key
from tenants.rings import OPERATOR, CannotRotate, Ring, Stage, Tell, Turned, Unfinished


class ContextRing(Ring):
    """CONTEXT_KEY, and the names of the keys that Postgres accepts."""

    name = "context"
    lasting = timedelta(seconds=TOKEN_SECONDS)

    def keys(self) -> list[str]:
        return [settings.CONTEXT_KEY.decode()]

    def variables(self, keys: Sequence[str]) -> dict[str, str]:
        return {"CONTEXT_KEY": keys[0]}

    def shown(self, keys: Sequence[str], new: str | None) -> dict[str, str]:
        return {"CONTEXT_KEY": keys[0]} if keys[0] == new else {}

    def fingerprint(self, key: str) -> str:
        return token.key_id(key.encode())

    def accepted(self) -> dict[str, object]:
        """The names of the keys that the database accepts, oldest first, and since when."""
        with connections[OPERATOR].cursor() as cursor:
            cursor.execute("select id, created_at from slipway.context_keys()")
            return dict(cursor.fetchall())

    def stage(self) -> Stage:
        accepted, mine = list(self.accepted()), self.fingerprint(self.keys()[0])
        if mine not in accepted:
            raise CannotRotate(
                "Postgres does not know this process's CONTEXT_KEY: `manage.py migrate` tells it."
            )
        if len(accepted) == 1:
            return Stage.SETTLED
        return Stage.USED if accepted[-1] == mine else Stage.ACCEPTED

    def _accept(self, actor: str, reason: str, dry_run: bool, tell: Tell) -> Turned:
        new = self.make()
        if not dry_run:
            _refuse_without_owner()
            with connections["owner"].cursor() as cursor:
                install_context_key(cursor, new.encode())
            self._record("keys.made", [new], actor, reason)
        return self._turned(Stage.SETTLED, Stage.USED, [new], new, _THEN)

    def _use(self, actor: str, reason: str, dry_run: bool, tell: Tell) -> Turned:
        """One was made, and this process does not have it: its maker was killed, or kept it."""
        return self._accept(actor, reason, dry_run, tell)

    def finish(
        self, *, actor: str, reason: str, now: bool = False, dry_run: bool = False
    ) -> Turned:
        stage = self.stage()
        if stage != Stage.USED:
            raise CannotRotate(
                "This process's CONTEXT_KEY is not the newest that Postgres accepts: set that one"
                " everywhere first."
                if stage == Stage.ACCEPTED
                else "Postgres accepts one key alone: there is none to be dropped."
            )
        (*_, (mine, since)) = self.accepted().items()
        if not now and timezone.now() < since + self.lasting:  # type: ignore[operator]
            raise Unfinished(
                "The new key was made less than a quarter of an hour ago, and what the old one"
                " signed is good for so long. Wait, or say --now."
            )
        if not dry_run:
            _refuse_without_owner()
            with connections["owner"].cursor() as cursor:
                drop_context_keys(cursor, keep=mine)
            self._record("keys.dropped", self.keys(), actor, reason)
        return Turned(self.name, stage, Stage.SETTLED, {}, {}, "It is done.")


CONTEXT = ContextRing()
_THEN = "When every process runs with it: manage.py rotate-keys context --finish"


def _refuse_without_owner() -> None:
    if "owner" not in settings.DATABASES:
        raise CannotRotate("OWNER_DATABASE_URL is not set: only the owner's role changes keys.")
