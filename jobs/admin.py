"""Work and what came of it in the console: shown; replay and discard are services."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import showing
from config.admin.filters import (
    ByAge,
    ByEnd,
    ByLane,
    ByTenant,
    beginning,
    choice,
    presence,
)
from config.admin.paging import NEWEST, Walk
from config.admin.reading import ReadOnlyAdmin
from config.admin.seeking import Searches, uuid_in
from config.admin.showing import Panel, mark, moment, visible
from config.admin.trying import tried
from jobs import acts, keeping, panels, registry, seeking
from jobs.filters import ByFailing, ByLife, ByPause
from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane, Replay, Work
from jobs.states import State
from jobs.works import LISTED
from tenants.admin import AuditEntryAdmin, TenantAdmin

# States that an index leads to by themselves: all but what is done, and what is in progress.
STANDING = frozenset(State.values) - {State.SUCCEEDED, State.PROCESSING}
OPEN = {"resolved": frozenset({True})}  # Null: nobody resolved it.
ByKind = choice("kind", lambda: [(name, name) for name in sorted(registry.kinds())])
ByQueue = choice("queue", registry.queues)
# As no key of attempts has it: what leads to them is put in order then, or has an index of its own.
LATEST = (F("started_at").desc(nulls_last=True), NEWEST)


class SoughtById(ReadOnlyAdmin):
    """Rows that are found by their ids alone, as the API spells them or bare: by an index."""

    searches = Searches(prefix="id")


class WorkAdmin(ReadOnlyAdmin):
    """The works of a queue: what they have in common."""

    list_display: Any = (
        "ident", "whose", "stands", "lane", "attempts", "due", "made", "said",
    )  # fmt: skip
    list_filter: ClassVar[Any] = (
        choice("state", State.values), ByTenant, ByLane, ByAge, ByEnd,
    )  # fmt: skip
    searches = Searches(prefix="id", errors="last_error")
    walks: ClassVar[tuple[Walk, ...]] = (
        Walk(("state",), (NEWEST,), only={"state": STANDING}),
        # What is in progress is little: read all of it, and put it in order.
        Walk(("state",), (NEWEST,), only={"state": frozenset({State.PROCESSING})}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """All of them, in the words of the lists' own index."""
        return super().get_queryset(request).filter(LISTED)

    @admin.display(description="due")
    def due(self, work: Work) -> SafeString | str:
        waits = work.state not in {State.SUCCEEDED, State.CANCELLED, State.DISCARDED}
        return moment(work.due_at if waits else None)

    @admin.display(description="last error")
    def said(self, work: Work) -> str:
        return visible(work.last_error, most=120)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return [*panels.of_work(row), *super().panels(request, row)]


@admin.register(Job)
class JobAdmin(WorkAdmin):
    list_display = ("ident", "kind", "whose", "stands", "attempts", "due", "made", "said")
    list_filter = (
        choice("state", State.values), ByKind, ByTenant, ByLane, ByAge, ByEnd,
    )  # fmt: skip


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    """A page's address has the attempt's start beside its id: the one index has both."""

    list_display = (
        "started", "queue", "work", "whose", "number", "came", "duration_ms", "said",
    )  # fmt: skip
    list_filter = (
        ByQueue, choice("outcome", Attempt.Came.values), ByTenant, ByAge,
    )  # fmt: skip
    hidden = ("request", "response", "error")
    key = ("started_at", "id")
    tenant_first = False
    walks = (
        Walk(("work",), LATEST),
        Walk(
            ("outcome",),
            LATEST,
            only={"outcome": frozenset(Attempt.Came.values) - {Attempt.Came.SUCCEEDED}},
        ),
    )

    list_reads = ("error",)
    searches = Searches(prefix="att", own=seeking.tries_of, hosted=seeking.sent_to, errors="error")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Attempt | None:
        """By id and start; by the id alone it is looked for around the time that it tells."""
        id_text, _, start = object_id.partition(panels.ADDRESS)
        uuid = uuid_in(id_text)
        if uuid is None or (start and not (start.isascii() and start.isdigit())):
            return None
        rows = Attempt.objects.filter(id=uuid)
        try:
            if start:
                exact = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(start))
                return rows.filter(started_at=exact).first()
            ended = datetime.fromtimestamp((uuid.int >> 80) / 1000, tz=UTC)
        except (OverflowError, ValueError):
            return None
        soon = ended + timedelta(seconds=10)  # Clocks of drainers and of the database differ.
        for before in (timedelta(minutes=2), timedelta(hours=1)):
            near = rows.filter(started_at__gte=ended - before, started_at__lt=soon)
            if (found := near.first()) is not None:
                return found
        return None

    def address(self, row: Any) -> str:
        return panels.address_of(row)

    @admin.display(description="started")
    def started(self, attempt: Attempt) -> SafeString | str:
        return moment(attempt.started_at)

    @admin.display(description="work")
    def work(self, attempt: Attempt) -> SafeString | str:
        return panels.work_link(attempt.queue, attempt.work_id)

    @admin.display(description="outcome")
    def came(self, attempt: Attempt) -> SafeString:
        return mark(attempt.outcome)

    @admin.display(description="error")
    def said(self, attempt: Attempt) -> str:
        return visible(attempt.error, most=120)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "work", "whole_error"]

    @admin.display(description="error")
    def whole_error(self, attempt: Attempt) -> str:
        return attempt.error

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        sent = _sent(row.queue, row.tenant_id, row.work_id)
        shown = {"tried": tried(row.request, row.response, sent=sent)}
        return [
            Panel("Request and response", "console/exchange.html", shown, "exchange"),
            panels.timeline(row.queue, row.tenant_id, row.work_id, but=row.pk),
        ]


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ("since", "queue", "work", "whose", "because", "said", "resolved", "resolved_by")
    list_filter = (
        presence("resolved_at", yes="resolved", no="open", name="resolved"),
        ByQueue,
        choice("reason", DeadLetter.Reason.values),
        choice("resolution", DeadLetter.Resolution.values),
        beginning("error", name="error", hint="how it begins"),
        ByTenant,
        ByAge,
    )
    hidden = ("request", "response", "attempts")
    searches = Searches(
        prefix="dl",
        own=seeking.letters_of,
        hosted=seeking.sent_to,
        errors="error",
    )
    walks = (
        Walk(("work",), (NEWEST,)),
        # Ranged: of one queue, or reason, not all that is open is walked to.
        Walk(("resolved", "queue"), ("queue", NEWEST), only=OPEN),
        Walk(("resolved", "reason"), ("reason", NEWEST), only=OPEN),
        Walk(("resolved",), (NEWEST,), only=OPEN),
    )

    @admin.display(description="since")
    def since(self, letter: DeadLetter) -> SafeString | str:
        return moment(letter.created_at)

    @admin.display(description="work")
    def work(self, letter: DeadLetter) -> SafeString | str:
        return panels.work_link(letter.queue, letter.work_id)

    @admin.display(description="reason")
    def because(self, letter: DeadLetter) -> SafeString:
        return mark(letter.reason)

    @admin.display(description="error")
    def said(self, letter: DeadLetter) -> str:
        return visible(letter.error, most=120)

    @admin.display(description="resolution")
    def resolved(self, letter: DeadLetter) -> SafeString:
        return mark(letter.resolution or "open")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*super().get_fields(request, obj), "work"]

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        sent = _sent(row.queue, row.tenant_id, row.work_id)
        shown = {"tried": tried(row.request, row.response, sent=sent)}
        return [
            Panel("Last request and response", "console/exchange.html", shown, "exchange"),
            panels.timeline(row.queue, row.tenant_id, row.work_id, letters=[row]),
            *([_kept(row)] if row.attempts else []),
            panels.audit_trail(f"{row.queue}:{row.work_id}"),
        ]


@admin.register(Lane)
class LaneAdmin(ReadOnlyAdmin):
    # The rest is on its page, which says of each until when.
    list_display = (
        "key", "whose", "held_back", "failures", "failing_since", "trips", "pace", "room",
    )  # fmt: skip
    list_filter = (
        ByPause,
        ByFailing,
        ByTenant,
    )
    walks = (
        Walk(("paused",), (NEWEST,), only={"paused": frozenset({True})}),
        Walk(("failing",), (NEWEST,), only={"failing": frozenset({"yes", "often"})}),
        Walk(("lane",), (NEWEST,)),  # One: by its tenant and its key.
    )
    searches = Searches(own=seeking.lanes_of, named=seeking.lane_called, texts=("key",))

    @admin.display(description="held back")
    def held_back(self, lane: Lane) -> str:
        return visible(panels.why_paused(lane), most=120)

    @admin.display(description="rate", empty_value=showing.NOTHING)
    def pace(self, lane: Lane) -> float | None:
        """Its own or the operator's: the narrower holds, as in the engine."""
        return min(
            (rate for rate in (lane.rate, lane.operator_rate) if rate is not None), default=None
        )

    @admin.display(description="window", empty_value=showing.NOTHING)
    def room(self, lane: Lane) -> int | None:
        """Likewise."""
        said = (lane.window, lane.operator_window)
        return min((window for window in said if window is not None), default=None)

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        said = [
            ("held back", panels.why_paused(row) or "no"),
            ("by an operator until", row.operator_paused_until),
            ("because", row.operator_why),
            ("by its owner, or the engine, until", row.paused_until),
            ("because", row.paused_why),
            ("learnt window", row.learnt_window),
            ("learnt rate", row.learnt_rate),
            ("learnt at", row.learnt_at),
        ]
        return [
            showing.facts("Whether it runs", said),
            panels.of_lane(row.key, row.tenant_id),
            panels.audit_trail(f"lane:{row.key}"[:100]),
        ]


@admin.register(Replay)
class ReplayAdmin(SoughtById):
    list_display = (
        "created_at",
        "action",
        "queue",
        "whose",
        "status",
        "done",
        "total",
        "actor",
    )
    list_filter = (choice("action", Replay.Action.values), ByQueue, ByTenant, ByAge)
    searches = Searches(prefix="rpl")

    def panels(self, request: HttpRequest, row: Any) -> list[Panel]:
        return [panels.audit_trail(f"replay:{row.pk}")]


@admin.register(Drainer)
class DrainerAdmin(ReadOnlyAdmin):
    list_display = ("host", "pid", "started_at", "beat_at", "dead_at", "busy", "slots")
    list_filter = (ByLife,)


def _sent(queue: str, tenant_id: int, work_id: UUID) -> str:
    """The body that a work sends, where its queue keeps it elsewhere than in the attempt."""
    try:
        return registry.queue(queue).model.sent(tenant_id, work_id)
    except LookupError:
        return ""


def _kept(letter: DeadLetter) -> Panel:
    """The attempts whose day was dropped, with what was said."""
    rows = [
        (f"#{one.number}", one.started_at, mark(one.outcome), one.error,
         (one.response or {}).get("status"))
        for one in keeping.kept(letter)
    ]  # fmt: skip
    columns = ("attempt", "started", "outcome", "error", "answer")
    return showing.table("Kept attempts", columns, rows, note="Of days that are no longer kept.")


# What operators may do.
JobAdmin.also(*acts.of_works("jobs", Job))
DeadLetterAdmin.also(*acts.LETTERS)
LaneAdmin.also(*acts.LANES)
ReplayAdmin.also(*acts.REPLAYS)
TenantAdmin.also(*acts.of_lanes(lambda tenant: (f"jobs:{tenant.pk}", tenant.pk), "its jobs"))
TenantAdmin.shows(lambda tenant: panels.of_tenant(tenant.pk))
AuditEntryAdmin.spelled.append(seeking.audited)
