"""Key rings: the keys of one purpose, and how a new one takes an old one's place while all runs.

A ring's first key signs or encrypts, all of them are accepted. So a new key goes in last, and only
when every process knows it, first; then what the old one holds is carried over, and when nothing
needs it any more it is dropped. Each of these steps is one call, and each leaves a ring that works:
killed anywhere, it is called again. A ring says by its keys alone how far it is, but for which of
them is the newest: of that the audit trail has each key's name (never the key).

SLIPWAY["KEY_RINGS"] names the rings; `manage.py rotate-keys` turns them.
"""

import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from tenants import audit
from tenants.models import AuditEntry

OPERATOR = "operator"
_MADE, _USED, _DROPPED = "keys.made", "keys.used", "keys.dropped"


class Stage(StrEnum):
    """How far a ring is."""

    SETTLED = "settled"  # One key, which does everything. Next: a new one is accepted.
    ACCEPTED = "accepted"  # The new key is accepted, the old one signs. Next: the new one signs.
    USED = "used"  # The new key signs, the old one is accepted. Next: it is dropped.


class Unfinished(Exception):
    """The old key is still needed; the message says by what, or until when."""


class CannotRotate(Exception):
    """It cannot be done from here; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Turned:
    """One step of a ring: what the variables are to be, and what to do next."""

    ring: str
    before: Stage
    after: Stage
    variables: Mapping[str, str]  # What changes. Secret.
    shown: Mapping[str, str]  # The same for a terminal, where only a new key is shown.
    then: str  # What to do next, in words.
    carried: int = 0


Tell = Callable[[int], None]  # Hears of each chunk that was carried over.


def _silent(count: int) -> None:
    """Nobody listens."""


class Ring(ABC):
    """One ring."""

    name: str
    # How long what the old key signed may still be shown by somebody.
    lasting: timedelta = timedelta(0)
    lasting_why: str = ""
    # Whether what the old key holds is lost with it: then it is never dropped before its time.
    irreplaceable: bool = False

    @abstractmethod
    def keys(self) -> list[str]:
        """The keys that this process has, the one that signs first."""

    @abstractmethod
    def variables(self, keys: Sequence[str]) -> dict[str, str]:
        """What the environment is to say, so that these are the keys."""

    @abstractmethod
    def shown(self, keys: Sequence[str], new: str | None) -> dict[str, str]:
        """The same for people: of the keys that are there already, only which."""

    def make(self) -> str:
        """A new key."""
        return secrets.token_hex(32)

    def carry(self, tell: Tell = _silent) -> int:
        """Move what the other keys hold to the first one; says how much that was."""
        return 0

    def needs_old(self) -> str:
        """What still needs another key than the first, in words; "" when nothing does."""
        return ""

    def fingerprint(self, key: str) -> str:
        """A key's name, which tells nothing of it."""
        return hashlib.sha256(f"slipway key {self.name} ".encode() + key.encode()).hexdigest()[:8]

    def stage(self) -> Stage:
        """How far it is."""
        keys = self.keys()
        if len(keys) == 1:
            return Stage.SETTLED
        return Stage.USED if self._newest(keys) == keys[0] else Stage.ACCEPTED

    def turn(
        self, *, actor: str, reason: str, dry_run: bool = False, tell: Tell = _silent
    ) -> Turned:
        """Take the next step, up to where the old key may be dropped."""
        steps = {
            Stage.SETTLED: self._accept,
            Stage.ACCEPTED: self._use,
            Stage.USED: self._carry_over,
        }
        return steps[self.stage()](actor, reason, dry_run, tell)

    def finish(
        self, *, actor: str, reason: str, now: bool = False, dry_run: bool = False
    ) -> Turned:
        """Drop all keys but the first.

        `now` ends what the old key signed; what it encrypted is never left without its key.
        Raises Unfinished, CannotRotate.
        """
        keys, stage = self.keys(), self.stage()
        if stage != Stage.USED:
            raise CannotRotate(f"No key of {self.name} is there to be dropped: it is {stage}.")
        if self.irreplaceable or not now:
            self._refuse_needed()
        if not now:
            self._refuse_early()
        if not dry_run:
            self._record(_DROPPED, keys[1:], actor, reason)
        return self._turned(stage, Stage.SETTLED, keys[:1], None, "Then it is done.")

    def _refuse_needed(self) -> None:
        if needs := self.needs_old():
            raise Unfinished(needs)

    def used_at(self) -> datetime | None:
        """When the step was taken from which on the first key signs; None where nobody knows."""
        return self._recorded(_USED, self.keys()[0])

    def _refuse_early(self) -> None:
        used_at = self.used_at()
        if used_at is not None and timezone.now() < used_at + self.lasting:
            until = f"{used_at + self.lasting:%Y-%m-%d %H:%M} UTC"
            raise Unfinished(f"{self.lasting_why} Wait until {until}, or say --now.")

    def _accept(self, actor: str, reason: str, dry_run: bool, tell: Tell) -> Turned:
        new = self.make()
        if not dry_run:
            self._record(_MADE, [new], actor, reason)
        keys = [*self.keys(), new]
        return self._turned(Stage.SETTLED, Stage.ACCEPTED, keys, new, _AGAIN)

    def _use(self, actor: str, reason: str, dry_run: bool, tell: Tell) -> Turned:
        keys = self.keys()
        newest = self._newest(keys)
        if not dry_run:
            self._record(_USED, [newest], actor, reason)
        keys = [newest, *(key for key in keys if key != newest)]
        return self._turned(Stage.ACCEPTED, Stage.USED, keys, None, _AGAIN)

    def _carry_over(self, actor: str, reason: str, dry_run: bool, tell: Tell) -> Turned:
        carried = 0 if dry_run else self.carry(tell)
        then = f"Then, when nothing needs the old key: manage.py rotate-keys {self.name} --finish"
        return Turned(self.name, Stage.USED, Stage.USED, {}, {}, then, carried)

    def _turned(
        self, before: Stage, after: Stage, keys: Sequence[str], new: str | None, then: str
    ) -> Turned:
        return Turned(self.name, before, after, self.variables(keys), self.shown(keys, new), then)

    def _newest(self, keys: Sequence[str]) -> str:
        """The one that was made last; the first, where nobody knows."""
        made = {key: at for key in keys if (at := self._recorded(_MADE, key))}
        return max(made, key=lambda key: made[key]) if made else keys[0]

    def _recorded(self, action: str, key: str) -> datetime | None:
        rows = AuditEntry.objects.using(OPERATOR).filter(action=action, target=self._target(key))
        return rows.order_by("-at").values_list("at", flat=True).first()

    def _record(self, action: str, keys: Sequence[str], actor: str, reason: str) -> None:
        for key in keys:
            audit.record(
                actor=actor, action=action, target=self._target(key), reason=reason, using=OPERATOR
            )

    def _target(self, key: str) -> str:
        return f"key:{self.name}:{self.fingerprint(key)}"


_AGAIN = "When every process runs with it, run this again."


class ListRing(Ring):
    """A ring that one variable holds, separated by commas."""

    def __init__(self, name: str, variable: str) -> None:
        self.name, self.variable = name, variable

    def keys(self) -> list[str]:
        found = getattr(settings, self.variable)
        return [key.decode() if isinstance(key, bytes) else key for key in found]

    def variables(self, keys: Sequence[str]) -> dict[str, str]:
        return {self.variable: ",".join(keys)}

    def shown(self, keys: Sequence[str], new: str | None) -> dict[str, str]:
        return {self.variable: ",".join(_named(keys, self.keys(), new))}


def ring(name: str) -> Ring:
    """The ring of this name. Raises KeyError."""
    found: Ring = import_string(settings.SLIPWAY["KEY_RINGS"][name])
    return found


def _named(keys: Sequence[str], there: Sequence[str], new: str | None) -> list[str]:
    """A new key as it is, the others by their place in what the variable says now."""
    return [key if key == new else f"<key {there.index(key) + 1} of now>" for key in keys]
