"""What the doctor looks at in tenants' lives: moves to another home that nobody goes on with."""

from collections.abc import Iterator

from config.doctor import Finding, ok, warn
from config.ids import format_id
from jobs.states import State
from lifecycle.models import PlanMove
from lifecycle.moving import undoing
from tenants.services import OPERATOR

_DEAD = "Mend what its dead letter says, then replay it, or discard it (docs/lifecycle.md)."
_GIVEN_UP = "Run `manage.py tenants tidy` where OWNER_DATABASE_URL is set; is `beat` alive?"


def look_at_moves() -> Iterator[Finding]:
    """Those that are not at their end, though their job is dead, was given up or is gone."""
    moves = list(PlanMove.objects.using(OPERATOR).filter(finished_at=None))
    well = True
    for move in moves:
        state = undoing.state_of_job(move)
        said = f"{format_id('mov', move.pk)} of tenant {move.tenant_id} stands at {move.phase}"
        if state == State.DEAD_LETTER:
            well = False
            yield warn(f"{said}, and its job is dead.", _DEAD)
        elif state in (State.DISCARDED, State.CANCELLED, None):
            well = False
            yield warn(f"{said}, and its job was given up: nobody ends it.", _GIVEN_UP)
    if well:
        yield ok(f"{len(moves)} moves to another home are under way.")
