"""What the console shows of works on the pages of whatever they are about.

Everything is bounded and led to by an index: a page costs as much with a million works as with ten.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin.utils import quote
from django.db.models import Q
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.admin import showing
from config.admin.paging import pinned
from config.admin.showing import Panel, link, list_link, mark, moment, visible
from jobs import keeping, registry
from jobs.engine.sql import GOES_ON
from jobs.models import GATE, NEWEST, Attempt, DeadLetter, Drainer, Gate, Job, Lane, Work
from jobs.registry import Queue
from jobs.states import WAITING, State
from tenants.models import AuditEntry, Tenant
from tenants.states import TenantStatus

SHOWN = 50  # Tries, entries of the audit trail.
FEW = 20  # Of other rows.
COUNTED = 1_000  # Nobody needs to know more exactly how many wait.
ADDRESS = "."  # Between an attempt's id and its start, in its page's address.

_BODIES = ("request", "response")


# ---- Works ----


def queue_of(work: Work) -> Queue | None:
    """The queue that a work is in."""
    return next((one for one in registry.queues().values() if one.model is type(work)), None)


def page_of(queue: str) -> str:
    """The name of the console's page of a queue's works: "webhooks_delivery"."""
    try:
        options = registry.queue(queue).model._meta
    except LookupError:
        return ""
    return f"{options.app_label}_{options.model_name}"


def work_link(queue: str, work_id: UUID, text: str = "") -> SafeString | str:
    """A link to a work's page."""
    page = page_of(queue)
    return link(page, work_id, text or str(work_id)) if page else text or str(work_id)


def of_work(work: Work) -> list[Panel]:
    """Why it stands where it stands, what was tried, its letters, and who did what to it."""
    of, tenant_id = queue_of(work), int(work.tenant_id or 0)  # It has one: the column is not null.
    if of is None:
        return []
    letters = list(
        DeadLetter.objects.filter(tenant_id=tenant_id, queue=of.name, work_id=work.pk)
        .defer(*_BODIES)
        .order_by(NEWEST)[:FEW]
    )
    return [
        standing(of, work),
        timeline(of.name, tenant_id, work.pk, letters=letters),
        *([letter_table("Dead letters", letters)] if letters else []),
        audit_trail(f"{of.name}:{work.pk}"),
    ]


def standing(of: Queue, work: Work) -> Panel:
    """Where a work stands, its lane and the place it goes to, and what it waits for."""
    keys = [work.lane]
    if of.pace and of.model.destination:
        keys.append(str(getattr(work, of.model.destination)))
    rows = Lane.objects.filter(tenant_id=int(work.tenant_id or 0), key__in=keys)
    lanes = {lane.key: lane for lane in rows}
    pairs: list[tuple[str, Any]] = [("queue", of.name), ("state", mark(work.state))]
    pairs.append(("waits for", _waits_for(work, [lanes[key] for key in keys if key in lanes])))
    for key in keys:
        lane = lanes.get(key)
        pairs.append(("lane", link("jobs_lane", lane.pk, key) if lane else key))
    if work.drainer is not None:
        pairs.append(("drainer", _drainer(work.drainer)))
    return showing.facts("Where it stands", pairs)


def timeline(
    queue: str,
    tenant_id: int,
    work_id: UUID,
    *,
    letters: Iterable[DeadLetter] = (),
    but: UUID | None = None,
) -> Panel:
    """The last tries of a work, the first one first, with those that letters kept."""
    rows = Attempt.objects.filter(tenant_id=tenant_id, work_id=work_id, queue=queue)
    newest = rows.defer(*_BODIES).order_by("-number", "-started_at")[: SHOWN + 1]
    there = {attempt.pk: attempt for attempt in newest}
    cut = len(there) > SHOWN
    kept = {one.pk: one for letter in letters for one in keeping.kept(letter)}
    tries = sorted({**kept, **there}.values(), key=lambda one: one.started_at)[-SHOWN:]
    before: datetime | None = None
    shown = []
    for one in tries:
        shown.append(_try(one, before, linked=one.pk in there, here=one.pk == but))
        before = one.started_at
    note = f"The last {SHOWN}." if cut else ""
    data = {"tries": shown, "note": note}
    return Panel("Attempts", "console/timeline.html", data)


def _try(
    attempt: Attempt, before: datetime | None, *, linked: bool, here: bool
) -> Mapping[str, Any]:
    number: Any = f"#{attempt.number}"
    if linked and not here:
        number = link("jobs_attempt", quote(address_of(attempt)), number)
    took = "" if attempt.duration_ms is None else f"{attempt.duration_ms} ms"
    return {
        "number": format_html("<strong>{}</strong>", number),
        "outcome": attempt.outcome,
        "mark": mark(attempt.outcome),
        "at": moment(attempt.started_at),
        "took": took if linked else f"{took} (kept by its dead letter)",
        "waited": _span(attempt.started_at - before) if before else "",
        "said": visible(attempt.error, most=500),
    }


def address_of(attempt: Attempt) -> str:
    """What leads to an attempt's page: its id, and its start, which says in which partition."""
    return f"{attempt.pk}{ADDRESS}{int(attempt.started_at.timestamp() * 1_000_000)}"


# ---- What waits for a lane ----


def _waits_for(work: Work, lanes: Sequence[Lane]) -> str:
    """Why a work does not run now, in a sentence."""
    now = timezone.now()
    if work.state in WAITING:
        due = work.due_at.strftime("%Y-%m-%d %H:%M:%S")
        because = f"; then {why}" if (why := _withheld(work)) else ""
        return f"its time: {due} UTC ({_span(work.due_at - now)} from now){because}"
    if work.state == State.PROCESSING:
        return "nothing: a drainer does it"
    if work.state == State.DEAD_LETTER:
        return "an operator: replay or discard it"
    if work.state not in {State.PENDING, State.HELD}:
        return "nothing"
    if work.state == State.PENDING and (why := _withheld(work)):
        return why
    for lane in lanes:
        for until, why in pauses(lane):
            if until > now:
                return f"lane {lane.key}: {why or 'paused'}, {_until(until)}"
    if work.state == State.HELD:
        return "its lane to be opened"
    return "a drainer with a free slot, and its lane's turn"


def _withheld(work: Work) -> str:
    """Why nobody claims it, whatever its lane says: the gate is shut, or its tenant suspended."""
    gate = Gate.objects.filter(pk=GATE, held_since__isnull=False).first()
    if gate is not None:
        return f"an operator: nothing is claimed since the restore ({gate.held_why})"
    if work.lane in GOES_ON and isinstance(work, Job):
        return ""
    tenant = Tenant.objects.filter(pk=work.tenant_id).only("status", "closes_at").first()
    if tenant is not None and tenant.status == TenantStatus.SUSPENDED:
        return "its tenant to be reopened: it is suspended"
    if tenant is not None and tenant.status == TenantStatus.CLOSING and tenant.closes_at:
        return f"its tenant to be reopened: it is closing, {_until(tenant.closes_at)}"
    return ""


def pauses(lane: Lane) -> list[tuple[datetime, str]]:
    """Until when a lane is held back, and why: by the operator, and by all others."""
    said = ((lane.operator_paused_until, lane.operator_why), (lane.paused_until, lane.paused_why))
    return [(until, why) for until, why in said if until is not None]


def why_paused(lane: Lane) -> str:
    """What holds a lane back now; "" when nothing does."""
    now = timezone.now()
    said = [f"{why or 'paused'}, {_until(until)}" for until, why in pauses(lane) if until > now]
    return "; ".join(said)


def of_lane(key: str, tenant_id: int) -> Panel:
    """How much of each queue waits in a lane: counted no further than anybody needs to know."""
    rows = []
    for name, of in registry.queues().items():
        for text, condition in _led_to(of.model):
            found = of.model._default_manager.filter(condition, tenant_id=tenant_id, lane=key)
            count = found.order_by()[: COUNTED + 1].count()
            if count:
                rows.append((name, text, _some(count), _list_of(name, lane=key)))
    return showing.table(
        "What waits in it", ("queue", "state", "works", ""), rows, nothing="Nothing."
    )


def _led_to(model: type[Work]) -> list[tuple[str, Q]]:
    """The states in which an index leads to a lane's works: what each is called, its condition."""
    led = [
        (index.name.rpartition("_")[2], index.condition)
        for index in model._meta.indexes
        if list(index.fields[:2]) == ["tenant", "lane"] and "seq" not in index.fields
    ]
    return [(text, condition) for text, condition in led if condition is not None]


# ---- Letters, the audit trail, a tenant's works ----


def letter_table(title: str, letters: Iterable[DeadLetter], **more: Any) -> Panel:
    """Dead letters, as a table."""
    rows = [
        (
            link("jobs_deadletter", letter.pk, f"{letter.created_at:%Y-%m-%d %H:%M:%S}"),
            work_link(letter.queue, letter.work_id, f"{letter.queue} …{str(letter.work_id)[-6:]}"),
            mark(letter.reason),
            letter.error,
            mark(letter.resolution) if letter.resolution else mark("open"),
        )
        for letter in letters
    ]
    return showing.table(title, ("since", "work", "reason", "error", "resolved"), rows, **more)


def audit_trail(*targets: str) -> Panel:
    """What was done to a thing, the last first."""
    rows = AuditEntry.objects.filter(target__in=targets).defer("before", "after")
    entries = rows.order_by("-at")[:SHOWN]
    return audit_table(entries)


def audit_table(entries: Iterable[AuditEntry]) -> Panel:
    """Entries of the audit trail, as a table."""
    rows = [
        (link("tenants_auditentry", one.pk, f"{one.at:%Y-%m-%d %H:%M:%S}"), one.actor, one.action,
         one.reason)
        for one in entries
    ]  # fmt: skip
    columns = ("at", "actor", "action", "reason")
    return showing.table("Audit trail", columns, rows, nothing="Nobody did anything to it.")


def of_tenant(tenant_id: int) -> list[Panel]:
    """A tenant's works by queue, its lanes, and its open dead letters."""
    rows = []
    for name, of in registry.queues().items():
        newest = of.model._default_manager.filter(pinned("tenant_id", tenant_id))
        states = list(
            newest.order_by("-tenant_id", "-id").values_list("state", flat=True)[:COUNTED]
        )
        if states:
            counts = {state: states.count(state) for state in sorted(set(states))}
            told = ", ".join(f"{many} {state.replace('_', ' ')}" for state, many in counts.items())
            rows.append((_list_of(name, tenant=tenant_id, text=name), told))
    letters = DeadLetter.objects.filter(pinned("tenant_id", tenant_id))
    some = letters.filter(resolved_at=None).defer(*_BODIES, "attempts")
    lanes = Lane.objects.filter(pinned("tenant_id", tenant_id))
    return [
        showing.table("Works", ("queue", f"of its newest {COUNTED:,}"), rows, nothing="None."),
        showing.table(
            "Lanes",
            ("lane", "held back", "failing since"),
            [
                (link("jobs_lane", lane.pk, lane.key), why_paused(lane), lane.failing_since)
                for lane in lanes.order_by("-tenant_id", "-id")[:FEW]
            ],
        ),
        letter_table("Open dead letters", some.order_by("-tenant_id", "-id")[:FEW]),
    ]


def _list_of(queue: str, *, text: str = "list", **filters: Any) -> SafeString | str:
    page = page_of(queue)
    return list_link(page, text, **filters) if page else text


def _drainer(number: int) -> SafeString | str:
    drainer = Drainer.objects.filter(pk=number).first()
    return link("jobs_drainer", number, str(drainer)) if drainer else f"{number}, which is gone"


def _until(until: datetime) -> str:
    return "until it is resumed" if until.year >= 9000 else f"until {until:%Y-%m-%d %H:%M:%S} UTC"


def _some(count: int) -> str:
    return f"more than {COUNTED:,}" if count > COUNTED else f"{count:,}"


def _span(span: timedelta) -> str:
    """ "1 h 5 min"; the two largest units."""
    left = max(0, int(span.total_seconds()))
    if left < 1:
        return f"{max(0, int(span.total_seconds() * 1000))} ms"
    parts = []
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= seconds:
            parts.append(f"{left // seconds} {unit}")
            left %= seconds
    return " ".join(parts[:2])
