"""What operators do to works, dead letters, lanes and replays: each act is a service of jobs."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

from django import forms
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from config.admin.acts import Act, Asked, Because, Besides
from jobs import lanes, registry, replaying, selection, services
from jobs.errors import PaceRefused, ReasonMissing, StaleState
from jobs.models import DeadLetter, Job, Lane, Replay, Work
from jobs.resolving import WITHDRAWN
from jobs.selection import Selection
from jobs.services import OPERATOR
from jobs.states import CANCELLABLE, State

REFUSALS = (StaleState, ReasonMissing, PaceRefused)
FOR_GOOD = datetime(9999, 12, 31, tzinfo=UTC)  # What Python can read, unlike infinity.
Action = Replay.Action
LaneOf = Callable[[Any], tuple[str, int]]  # Of an object: its lane's key, and its tenant.

_DEAD = Q(state=State.DEAD_LETTER)
_TRIED = Q(state=State.FAILED) | Q(state=State.SCHEDULED) & ~Q(last_error="")
_WAITS = Q(state__in=WITHDRAWN)


# ---- Works ----


def _is_kept(work: Work) -> bool:
    """Whether something else ends it: cancelled, its tenant would be closing for ever."""
    return getattr(work, "kind", "") in registry.kept()


def _not_kept(queue: str) -> Q:
    return ~Q(kind__in=[*registry.kept()]) if queue == "jobs" else Q()


def _reserved(queue: str) -> Sequence[Besides]:
    """What only some may begin, only they may give up."""
    kinds = registry.reserved().items() if queue == "jobs" else ()
    return [Besides(permission, Q(kind=kind)) for kind, permission in kinds]


def of_works(queue: str, model: type[Work]) -> tuple[Act, ...]:
    """The acts on works of one queue."""
    acts = (replay(queue, model), retry(queue), discard(queue), cancel(queue))
    return (*acts, skip(queue)) if model.ordered else acts


def replay(queue: str, model: type[Work], **said: Any) -> Act:
    """Do it again. All that a filter finds: of that, what is dead."""
    words = {"name": "replay", "label": "Replay", "permission": "replay", "done": "replayed"}
    twice = " What is unknown may have been done: done again, it may happen twice."
    means = "Done again, with a new budget of attempts, behind all that is on time."
    return Act(
        **{**words, "means": means + (twice if model.never_twice else ""), **said},
        do=partial(_replay, queue),
        fits=lambda work: work.state in model.replayable,
        refusals=REFUSALS,
        chunk=partial(_chunk, queue, Action.REPLAY),
        within=_DEAD,
    )


def retry(queue: str) -> Act:
    """Try at once what waits for its next try."""
    return Act(
        name="retry",
        label="Retry now",
        permission="retry",
        done="to be tried now",
        means="Tried at once. Its budget of attempts stays, and so does what holds its lane back.",
        do=partial(_one, queue, services.retry_now),
        fits=lambda work: (
            work.state == State.FAILED or (work.state == State.SCHEDULED and work.last_error != "")
        ),
        refusals=REFUSALS,
        chunk=partial(_chunk, queue, Action.RETRY),
        within=_TRIED,
    )


def discard(queue: str) -> Act:
    """Give a dead one up."""
    return Act(
        name="discard",
        label="Discard",
        permission="discard",
        done="discarded",
        means="Given up for good; what it made is undone.",
        do=partial(_one, queue, services.skip),
        fits=lambda work: work.state == State.DEAD_LETTER and not _is_kept(work),
        besides=partial(_reserved, queue),
        refusals=REFUSALS,
        chunk=partial(_chunk, queue, Action.DISCARD),
        within=_DEAD & _not_kept(queue),
    )


def cancel(queue: str) -> Act:
    """Withdraw what waits."""
    return Act(
        name="cancel",
        label="Cancel",
        permission="cancel",
        done="cancelled",
        means="Withdrawn before it is done. What was begun, and can be undone, is undone.",
        do=partial(_one, queue, services.cancel),
        fits=lambda work: work.state in WITHDRAWN and not _is_kept(work),
        besides=partial(_reserved, queue),
        refusals=REFUSALS,
        chunk=partial(_chunk, queue, Action.CANCEL),
        within=_WAITS & _not_kept(queue),
    )


def skip(queue: str, **said: Any) -> Act:
    """Give one of an ordered lane up, wherever it waits."""
    words = {
        "name": "skip",
        "label": "Skip in its lane",
        "permission": "discard",
        "done": "skipped",
        "means": "Given up, so that what is behind it in its ordered lane runs.",
    }
    return Act(
        **{**words, **said},
        do=partial(_one, queue, services.skip),
        fits=lambda work: work.seq is not None and work.state in CANCELLABLE,
        refusals=REFUSALS,
        many=False,
    )


def _one(queue: str, service: Callable[..., None], work: Work, asked: Asked) -> None:
    with transaction.atomic(using=OPERATOR):
        _hold_as_seen(work)
        service(queue=queue, work_id=work.pk, actor=asked.actor, reason=asked.reason)


def _replay(queue: str, work: Work, asked: Asked) -> None:
    try:
        _one(queue, services.replay_work, work, asked)
    except StaleState:
        one = Selection(queue=queue, tenant_id=cast("int", work.tenant_id))
        why = selection.left_out(one, [work.pk], action=Action.REPLAY, using=OPERATOR)
        if work.pk not in why:
            raise
        raise StaleState(f"it cannot be replayed: {why[work.pk].replace('_', ' ')}.") from None


def _hold_as_seen(work: Work) -> None:
    """Lock it as the page showed it: of two clicks at once the second finds it tried since."""
    rows = type(work)._default_manager.using(OPERATOR).select_for_update()
    seen = rows.filter(pk=work.pk, state=work.state, attempts=work.attempts)
    if not seen.values_list("pk", flat=True).first():
        raise StaleState("it stands otherwise by now.")


def _chunk(queue: str, action: Action, rows: QuerySet[Any], asked: Asked) -> int:
    ids = list(rows.values_list("pk", flat=True))
    return _moved(queue, ids, action, asked)


def _moved(queue: str, ids: list[UUID], action: Action, asked: Asked) -> int:
    said = {"actor": asked.actor, "reason": asked.reason, "using": OPERATOR}
    return replaying.move(queue=queue, ids=ids, action=action, **said)


# ---- Dead letters ----


def _letter(service: Callable[..., None], letter: DeadLetter, asked: Asked) -> None:
    service(dead_letter=letter, actor=asked.actor, reason=asked.reason)


def _letters(action: Action, rows: QuerySet[Any], asked: Asked) -> int:
    found: dict[str, list[UUID]] = {}
    for queue, work_id in rows.values_list("queue", "work_id"):
        found.setdefault(queue, []).append(work_id)
    return sum(_moved(queue, ids, action, asked) for queue, ids in sorted(found.items()))


def _is_open(letter: DeadLetter) -> bool:
    return letter.resolved_at is None


# Queue → the permission that giving one of its works up takes besides. An app adds its queue's.
DISCARDS: dict[str, str] = {}


def _letters_besides() -> Sequence[Besides]:
    """By its letter a work is given up by nobody who may not give up the work."""
    job = Job.objects.filter(pk=OuterRef("work_id"))
    return [
        *(Besides(permission, Q(queue=queue)) for queue, permission in DISCARDS.items()),
        *(
            Besides(permission, Q(Exists(job.filter(kind=kind)), queue="jobs"))
            for kind, permission in registry.reserved().items()
        ),
    ]


LETTERS = (
    Act(
        name="replay",
        label="Replay",
        permission="replay",
        done="replayed",
        means="Done again, with a new budget of attempts, behind all that is on time.",
        do=partial(_letter, services.replay),
        fits=_is_open,
        refusals=REFUSALS,
        chunk=partial(_letters, Action.REPLAY),
        within=Q(resolved_at=None),
    ),
    Act(
        name="discard",
        label="Discard",
        permission="discard",
        done="discarded",
        means="Given up for good; what it made is undone.",
        do=partial(_letter, services.discard),
        fits=_is_open,
        besides=_letters_besides,
        refusals=REFUSALS,
        chunk=partial(_letters, Action.DISCARD),
        within=Q(resolved_at=None),
    ),
)


# ---- Replays ----


def _stop(replay: Replay, asked: Asked) -> None:
    replaying.cancel(replay=replay, actor=asked.actor, reason=asked.reason, using=OPERATOR)


def _go_on(replay: Replay, asked: Asked) -> None:
    said = {"actor": asked.actor, "reason": asked.reason}
    services.replay_work(queue="jobs", work_id=replay.pk, **said)


REPLAYS = (
    Act(
        name="stop",
        label="Stop",
        permission="cancel",
        done="stopped",
        means="No more of it is done; what was done stays done.",
        do=_stop,
        fits=lambda replay: replay.finished_at is None,
        refusals=REFUSALS,
    ),
    Act(
        name="go-on",
        label="Go on",
        permission="replay",
        done="going on",
        means="Its job is dead. Replayed, it goes on where it was.",
        do=_go_on,
        fits=lambda one: bool(replaying.stuck([one], using=OPERATOR)),
        refusals=REFUSALS,
    ),
)


# ---- Lanes ----


class Pause(Because):
    """For how long."""

    HOURS = (
        ("1", "an hour"),
        ("4", "4 hours"),
        ("24", "a day"),
        ("168", "a week"),
        ("", "until it is resumed"),
    )

    hours = forms.ChoiceField(
        choices=HOURS,
        initial="1",
        required=False,
        label="For",
        help_text="What is under way comes to its end. It can be resumed at any time.",
    )


class Window(Because):
    """How many at once."""

    window = forms.IntegerField(
        min_value=1,
        max_value=2**31 - 1,
        required=False,
        help_text="In progress at once, at most. Empty: as many as its queue allows.",
    )


class Rate(Because):
    """How many a second."""

    rate = forms.FloatField(
        min_value=0.001,
        required=False,
        help_text="Started in a second, in all workers together. Empty: no limit.",
    )


def of_lanes(lane_of: LaneOf, what: str = "lane") -> tuple[Act, ...]:
    """The acts on the lane of an object, whether it has a row or none yet."""
    words: dict[str, Any] = {"permission": "steer", "refusals": REFUSALS}
    return (
        Act(
            name="pause-lane",
            label=f"Pause {what}",
            done="paused",
            do=partial(_pause, lane_of),
            form=Pause,
            means="Nothing more of it is begun. An operator's word: its tenant cannot lift it.",
            **words,
        ),
        Act(
            name="resume-lane",
            label=f"Resume {what}",
            done="resumed",
            do=partial(_resume, lane_of),
            means="Its breaker is closed, too, and what a Retry-After asked for is forgotten."
            " What its tenant shut stays shut.",
            **words,
        ),
        Act(
            name="set-window",
            label=f"Window of {what}",
            done="set",
            do=partial(_set_window, lane_of),
            form=Window,
            **words,
        ),
        Act(
            name="set-rate",
            label=f"Rate of {what}",
            done="set",
            do=partial(_set_rate, lane_of),
            form=Rate,
            **words,
        ),
    )


def _pause(lane_of: LaneOf, row: Any, asked: Asked) -> None:
    hours = asked.values["hours"]
    until = timezone.now() + timedelta(hours=int(hours)) if hours else FOR_GOOD
    lanes.pause(**_lane(lane_of, row, asked), until=until)


def _resume(lane_of: LaneOf, row: Any, asked: Asked) -> None:
    lanes.resume(**_lane(lane_of, row, asked))


def _set_window(lane_of: LaneOf, row: Any, asked: Asked) -> None:
    lanes.set_window(**_lane(lane_of, row, asked), window=asked.values["window"])


def _set_rate(lane_of: LaneOf, row: Any, asked: Asked) -> None:
    lanes.set_rate(**_lane(lane_of, row, asked), rate=asked.values["rate"])


def _lane(lane_of: LaneOf, row: Any, asked: Asked) -> dict[str, Any]:
    key, tenant_id = lane_of(row)
    return {"key": key, "tenant_id": tenant_id, "actor": asked.actor, "reason": asked.reason}


def _itself(lane: Lane) -> tuple[str, int]:
    return lane.key, cast("int", lane.tenant_id)


LANES = of_lanes(_itself)
