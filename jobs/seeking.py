"""Where the console's search leads: from an id, a key or a host to attempts, letters and lanes."""

from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, Model, OuterRef, Q, Subquery

from config.admin.paging import Wish
from config.admin.seeking import Sought, of_host, uuid_in
from jobs import registry

# What lanes are called after: the word in their keys → the model of what they lead to.
CALLED: dict[str, type[Model]] = {}


def _owner_of(work_id: UUID) -> tuple[str, int] | None:
    """The queue and the tenant of a work, by its id: a look-up in each queue."""
    for name, of in registry.queues().items():
        rows = of.model._default_manager.filter(pk=work_id)
        tenant_id = rows.values_list("tenant_id", flat=True).first()
        if tenant_id is not None:
            return name, int(tenant_id)
    return None


def tries_of(uuid: UUID) -> Sought | None:
    """The attempts at a work."""
    return _of_work(uuid, "The tries of the work")


def letters_of(uuid: UUID) -> Sought | None:
    """The dead letters of a work."""
    return _of_work(uuid, "Letters of")


def _of_work(uuid: UUID, what: str) -> Sought | None:
    found = _owner_of(uuid)
    if found is None:
        return None
    queue, tenant_id = found
    work = Wish("work", "work_id", uuid, also=Q(queue=queue, tenant_id=tenant_id))
    return Sought((work,), f"{what} {uuid} of {queue}.")


def lanes_of(uuid: UUID) -> Sought | None:
    """The lane that is called after what it leads to, whose tenant is known."""
    for word, model in CALLED.items():
        rows = model._default_manager.filter(pk=uuid)
        tenant_id = rows.values_list("tenant_id", flat=True).first()
        if tenant_id is not None:
            return _lane(f"{word}:{uuid}", int(tenant_id))
    return None


def lane_called(key: str) -> Sought | None:
    """A lane by its key, where that says whose it is; others are looked for."""
    word, _, said = key.partition(":")
    if word in CALLED and (uuid := uuid_in(said)) is not None:
        return lanes_of(uuid)
    if word in {"jobs", "onboarding"} and said.isdecimal() and len(said) < 19:
        return _lane(key, int(said))
    return None


def _lane(key: str, tenant_id: int) -> Sought:
    return Sought((Wish("lane", "key", key, also=Q(tenant_id=tenant_id)),), f"The lane {key}.")


def sent_to(host: str) -> Q:
    """That a row's work goes to a host: told by the work, for each row that is looked at.

    As a scalar, which is asked for by key: of an EXISTS all works of the host might be read.
    """
    found = Q(pk__in=[])
    for name, of in registry.queues().items():
        if of.model.destination is None:
            continue
        goes_there = ExpressionWrapper(of_host(of.model.destination, host), BooleanField())
        works = of.model._default_manager.filter(pk=OuterRef("work_id"))
        found |= Q(Subquery(works.values(goes=goes_there)[:1]), queue=name)
    return found


def audited(uuid: UUID) -> list[str]:
    """How the audit trail may spell a work, or a replay, of this id."""
    return [f"{name}:{uuid}" for name in (*registry.queues(), "replay")]
