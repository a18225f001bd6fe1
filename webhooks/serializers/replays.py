"""What a replay looks like outside, and what its API takes."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import UNSET, Meta

from config.ids import InvalidId, format_id, parse_id
from config.moments import Moment, utc
from config.problems import FieldError
from config.spelling import unseen_flaw
from jobs.models import DeadLetter, Replay
from jobs.replaying import Preview
from jobs.resolving import WITHDRAWN
from jobs.selection import Found, Selection
from jobs.states import State
from tenants.serializers import REASON_MOST
from webhooks.models import Delivery
from webhooks.replaying import QUEUE

MOST_IDS = 500

Action = Replay.Action
Id = Annotated[str, Meta(max_length=60)]


class ReplayWish(msgspec.Struct, forbid_unknown_fields=True):
    """What to do with which deliveries: all that the rest finds, dead ones unless `states` says.

    `missing` makes the deliveries that should be there and are not, of events since `since`.
    With `dry_run` they are counted, and nothing is changed. `since` and `until` bound when a
    delivery (with `missing`: an event) was made: from the one, before the other.
    """

    action: Literal["replay", "discard"] = "replay"
    missing: bool = False
    dry_run: bool = False
    reason: Annotated[str, Meta(max_length=REASON_MOST)] = ""
    states: Annotated[tuple[State, ...], Meta(min_length=1, max_length=10)] = (State.DEAD_LETTER,)
    endpoint_id: Id | None = None
    event_type: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    dead_reason: DeadLetter.Reason | None = None
    since: datetime | None = None
    until: datetime | None = None
    delivery_ids: Annotated[list[Id], Meta(max_length=MOST_IDS)] = []

    @staticmethod
    def flaws(read: Any) -> Iterator[FieldError]:
        """What the types cannot say."""
        yield from _reason_flaws(read)
        yield from _state_flaws(read)
        yield from _id_flaws(read)
        if read.missing is True:
            yield from _missing_flaws(read)

    @property
    def what(self) -> Action:
        return Action.MISSING if self.missing else Action(self.action)

    def selection(self, tenant_id: int) -> Selection:
        """What it finds among the deliveries of one owner."""
        endpoint = parse_id("ep", self.endpoint_id) if self.endpoint_id else None
        return Selection(
            queue=QUEUE,
            tenant_id=tenant_id,
            states=tuple(dict.fromkeys(self.states)),
            lane=f"endpoint:{endpoint}" if endpoint else "",
            type=self.event_type or "",
            reason=str(self.dead_reason or ""),
            since=utc(self.since) if self.since else None,
            until=utc(self.until) if self.until else None,
            ids=tuple(parse_id("dlv", text) for text in self.delivery_ids),
        )


class SampleAnswer(TypedDict):
    """One of what was found: a delivery, or, where deliveries are missing, an event."""

    id: str
    state: str
    endpoint_id: str
    created_at: Moment
    last_error: str


class CountAnswer(TypedDict):
    """What a replay would move, with the first few.

    `capped`: there may be more; no more were counted. `left_out` is how many the filter finds
    besides, and why they cannot be sent again as things stand.
    """

    count: int
    capped: bool
    left_out: dict[str, int]
    sample: list[SampleAnswer]


class ReplayAnswer(TypedDict):
    """A replay, and how far it is. What stood elsewhere when its turn came was skipped.

    `status` is pending, running, finished, cancelled, or stuck: its job is a dead letter, which an
    operator must replay.
    """

    id: str
    action: str
    status: str
    total: int
    done: int
    skipped: int
    reason: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None


def replay_as_json(replay: Replay, *, stuck: bool = False) -> ReplayAnswer:
    return {
        "id": format_id("rpl", replay.pk),
        "action": replay.action,
        "status": "stuck" if stuck else replay.status,
        "total": max(replay.total, replay.done),  # It was counted to so many and no further.
        "done": replay.done,
        "skipped": replay.skipped,
        "reason": replay.reason,
        "created_at": replay.created_at,
        "started_at": replay.started_at,
        "finished_at": replay.finished_at,
    }


def count_as_json(found: Preview) -> CountAnswer:
    return {
        "count": found.count,
        "capped": found.capped,
        "left_out": dict(found.left_out),
        "sample": [_sample(one) for one in found.sample],
    }


def _sample(found: Found) -> SampleAnswer:
    return {
        "id": format_id("evt" if found.state == "missing" else "dlv", found.id),
        "state": found.state,
        "endpoint_id": f"ep_{found.lane.removeprefix('endpoint:')}",
        "created_at": found.created_at,
        "last_error": found.last_error,
    }


def _reason_flaws(read: Any) -> Iterator[FieldError]:
    if not isinstance(read.reason, str) or read.dry_run is not False:
        return
    if not read.reason.strip():
        yield FieldError("/reason", "required", "Say why.")
    elif flaw := unseen_flaw(read.reason):
        yield FieldError("/reason", *flaw)


def _state_flaws(read: Any) -> Iterator[FieldError]:
    if UNSET in (read.states, read.action):
        return
    allowed = Delivery.replayable if read.action == "replay" else (State.DEAD_LETTER, *WITHDRAWN)
    for index, state in enumerate(read.states):
        if state not in allowed:
            message = f"What is {state} cannot be {read.action}ed."
            yield FieldError(f"/states/{index}", "unknown_value", message)
    if read.dead_reason and list(read.states) != [State.DEAD_LETTER]:
        yield FieldError("/dead_reason", "invalid", "Only dead letters have one.")


def _id_flaws(read: Any) -> Iterator[FieldError]:
    if isinstance(read.endpoint_id, str) and not _is_id("ep", read.endpoint_id):
        yield FieldError("/endpoint_id", "invalid_format", "It is not an endpoint's id.")
    if isinstance(read.delivery_ids, list):
        for index, text in enumerate(read.delivery_ids):
            if not _is_id("dlv", text):
                message = "It is not a delivery's id."
                yield FieldError(f"/delivery_ids/{index}", "invalid_format", message)


def _missing_flaws(read: Any) -> Iterator[FieldError]:
    if read.since is None:
        yield FieldError("/since", "required", "Say since when something may be missing.")
    if read.action == "discard":
        yield FieldError("/action", "invalid", "What is missing cannot be discarded.")
    if read.dead_reason or read.delivery_ids:
        yield FieldError("/missing", "invalid", "What is missing is no delivery yet.")


def _is_id(prefix: str, text: str) -> bool:
    try:
        parse_id(prefix, text)
    except InvalidId:
        return False
    return True
