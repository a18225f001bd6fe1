"""What a step and a policy see of a work: its own columns, and those that are carried with it.

`Work.claimed` names the former; `Work.carried` and `carried_from` the latter, from other tables.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from psycopg.types.json import JsonbLoader, JsonLoader

if TYPE_CHECKING:
    from jobs.models import Work
    from jobs.registry import Queue

# One row for each work, whatever the joins find: a work that was taken must come back, once.
CARRIED = """
left join lateral (
  select {expressions} from (select taken.*) taken {joins} limit 1
) carried on true
"""

OF_WORKS = """
select taken.id {columns} from public."{table}" taken {carried} where taken.id = any(%s)
"""


def names(model: "type[Work]") -> tuple[str, ...]:
    """The keys of Claim.data, in the order in which `selected` selects them."""
    return (*model.claimed, *model.carried)


def selected(model: "type[Work]") -> str:
    """The columns, to come after others in a SELECT from `taken` joined with `carried`."""
    own = [f', taken."{name}"' for name in model.claimed]
    return "".join(own + [f', carried."{name}"' for name in model.carried])


def destination(model: "type[Work]") -> str:
    """Where the works of `taken` go, as an expression."""
    return "null" if model.destination is None else f'taken."{model.destination}"'


def joined(model: "type[Work]") -> str:
    """The join that gives `taken` its carried columns."""
    if not model.carried:
        return ""
    expressions = ", ".join(f'{sql} as "{name}"' for name, sql in model.carried.items())
    return CARRIED.format(expressions=expressions, joins=model.carried_from)


def of_works(queue: "Queue", ids: Collection[UUID], *, using: str) -> dict[UUID, dict[str, Any]]:
    """What a claim would carry of each of these works: what Queue.policy_of judges by.

    By id; works that are not there, or are not seen through `using`, are left out.
    """
    model = queue.model
    statement = OF_WORKS.format(columns=selected(model), table=queue.table, carried=joined(model))
    with connections[using].cursor() as cursor:
        # Django leaves JSON to its fields; here nobody else reads it.
        cursor.cursor.adapters.register_loader("json", JsonLoader)
        cursor.cursor.adapters.register_loader("jsonb", JsonbLoader)
        cursor.execute(statement, [list(ids)])
        return {id_: dict(zip(names(model), rest, strict=True)) for id_, *rest in cursor.fetchall()}
