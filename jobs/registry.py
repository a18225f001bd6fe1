"""The two tables of the engine: queues, and kinds of job."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from jobs import retry
from jobs.breaker import Breaker
from jobs.errors import UnknownKind, UnknownQueue
from jobs.pacing import Declared
from jobs.steps import Claim, Step, run

if TYPE_CHECKING:
    from jobs.models import Work

# Kind → its step, and the policy when it is not the default. SLIPWAY["JOBS"] adds a project's own.
KINDS: Mapping[str, Mapping[str, str]] = {
    "mail.send": {"step": "jobs.mail.send"},
    "jobs.resolve": {"step": "jobs.replaying.run"},
}


@dataclass(frozen=True, slots=True)
class Queue:
    """One kind of work: its table, what does it, and how much of it at once.

    `slots` are reserved for this queue in each drainer. `lane_window` and `tenant_window` bound
    what is in progress in all drainers together; None for no bound. `destination_share` of the
    slots may be under way to one place (Work.destination); None for all of them.

    With `pace` the queue is paced: what that function says of a claim's data, and what drainers
    learn, says how much goes to one place, and how fast (jobs.pacing). The place has the lane row
    of the work's destination, and its works' own lanes share it.
    """

    name: str
    model: "type[Work]"
    step: Step
    undo: Step | None
    policy_of: Callable[[Mapping[str, Any]], retry.Policy]
    undo_policy: retry.Policy
    slots: int
    deadline: float  # Seconds, for one try in all.
    lane_window: int | None
    tenant_window: int | None
    destination_share: float | None = None
    closing: Callable[[], Awaitable[None]] | None = None  # A drainer that leaves awaits it.
    breaker: Breaker | None = None  # None: nobody counts what fails in a lane.
    notice: str | None = None  # The kind of job that is told of dead works and ailing lanes.
    pace: Callable[[Mapping[str, Any]], Declared] | None = None
    initial_window: int = 10  # How many works go to a place at first, of which nothing is known.

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def on_threads(self) -> bool:
        """Whether its steps run on threads: those of jobs do, behind an async one."""
        return self.step is run or not inspect.iscoroutinefunction(self.step)

    @property
    def destination_slots(self) -> int | None:
        """How many works a drainer has under way to one place at once; None for no bound."""
        if self.destination_share is None or self.model.destination is None:
            return None
        return max(1, int(self.destination_share * self.slots))

    @property
    def undo_slots(self) -> int:
        """How many of the slots may be undoing at once: a quarter, and at least one."""
        return max(1, self.slots // 4)

    def policy(self, claim: Claim) -> retry.Policy:
        """The policy that judges this try."""
        return self.undo_policy if claim.discarding else self.policy_of(claim.data)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of job."""

    step: Step
    policy: retry.Policy


def queues() -> Mapping[str, Queue]:
    """All queues, in the order in which drainers serve them: that of SLIPWAY["QUEUES"]."""
    return {name: queue(name) for name in settings.SLIPWAY["QUEUES"]}


@cache
def queue(name: str) -> Queue:
    """The queue of this name, from SLIPWAY["QUEUES"].

    Raises UnknownQueue.
    """
    try:
        spec = settings.SLIPWAY["QUEUES"][name]
    except KeyError:
        raise UnknownQueue(name) from None
    return _queue(name, spec)


@cache
def kinds() -> Mapping[str, Kind]:
    """KINDS and SLIPWAY["JOBS"], resolved."""
    table = {**KINDS, **settings.SLIPWAY.get("JOBS", {})}
    return {
        name: Kind(
            step=import_string(spec["step"]),
            policy=import_string(spec.get("policy", "jobs.retry.DEFAULT")),
        )
        for name, spec in table.items()
    }


def kept() -> Mapping[str, str]:
    """Kinds whose jobs nobody cancels or discards: to what is done instead."""
    table = {**KINDS, **settings.SLIPWAY.get("JOBS", {})}
    return {name: spec["kept"] for name, spec in table.items() if spec.get("kept")}


def reserved() -> Mapping[str, str]:
    """Kinds whose jobs take a permission more to be given up: that to begin what they do."""
    table = {**KINDS, **settings.SLIPWAY.get("JOBS", {})}
    return {name: spec["permission"] for name, spec in table.items() if spec.get("permission")}


def kind(name: str) -> Kind:
    """The kind of this name.

    Raises UnknownKind.
    """
    try:
        return kinds()[name]
    except KeyError:
        raise UnknownKind(name) from None


def policy_of_kind(data: Mapping[str, Any]) -> retry.Policy:
    """The policy of a job, from its columns; the default when its kind is gone."""
    known = kinds().get(data["kind"])
    return known.policy if known else retry.DEFAULT


def _queue(name: str, spec: Mapping[str, Any]) -> Queue:
    if notice := spec.get("notice"):
        kind(notice)  # Raises UnknownKind now, and not in the middle of settling.
    policy = import_string(spec.get("policy", "jobs.retry.DEFAULT"))
    model = apps.get_model(spec["model"])
    where = model.destination
    if spec.get("pace") and (where is None or model._meta.get_field(where).null):
        raise ImproperlyConfigured(f"{name} is paced, but its works do not say where they go.")
    return Queue(
        name=name,
        model=model,
        step=import_string(spec["step"]),
        undo=import_string(spec["undo"]) if spec.get("undo") else None,
        # A function chooses by the work's columns; anything else is the policy itself.
        policy_of=policy if not isinstance(policy, retry.Policy) else lambda data: policy,
        undo_policy=import_string(spec.get("undo_policy", "jobs.retry.DEFAULT")),
        slots=int(spec["slots"]),
        deadline=float(spec["deadline"]),
        lane_window=spec.get("lane_window", max(1, int(spec["slots"]) // 2)),
        tenant_window=spec.get("tenant_window", max(1, int(spec["slots"]) // 2)),
        destination_share=spec.get("destination_share"),
        closing=import_string(spec["closing"]) if spec.get("closing") else None,
        breaker=import_string(spec["breaker"]) if spec.get("breaker") else None,
        notice=notice,
        pace=import_string(spec["pace"]) if spec.get("pace") else None,
        initial_window=int(spec.get("initial_window", 10)),
    )
