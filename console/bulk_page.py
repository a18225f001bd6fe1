"""The page of an act in bulk: how far it is, whether it is stuck; its panel keeps itself fresh."""

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest

from config.admin.acts import Act, Asked
from config.admin.reading import ReadOnlyAdmin
from config.admin.showing import Panel, link, mark
from console import bulk
from console.models import Bulk
from jobs.acts import REFUSALS
from jobs.services import OPERATOR
from tenants.models import User

EVERY = 2  # Seconds between two looks at one that goes on (static/console/refresh.js).


def _stop(row: Bulk, asked: Asked) -> None:
    bulk.cancel(bulk=row, actor=asked.actor, reason=asked.reason)


def _go_on(row: Bulk, asked: Asked) -> None:
    bulk.go_on(bulk=row, actor=asked.actor, reason=asked.reason)


@admin.register(Bulk)
class BulkAdmin(ReadOnlyAdmin):
    list_display = ("made", "act", "on", "stands", "done", "skipped", "total", "user", "reason")
    list_select_related = ("user",)
    acts = (
        Act(
            name="stop",
            label="Stop",
            permission="cancel",
            done="stopped",
            means="No more of it is done; what was done stays done.",
            do=_stop,
            fits=lambda row: row.finished_at is None,
            refusals=REFUSALS,
            many=False,
        ),
        Act(
            name="go-on",
            label="Go on",
            permission="replay",
            done="going on",
            means="Its job is dead. Replayed, it goes on where it was.",
            do=_go_on,
            fits=lambda row: bool(bulk.stuck([row])),
            refusals=REFUSALS,
            many=False,
        ),
    )

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [
            *("act", "on", "filter", "who", "reason", "request_id"),
            *("created_at", "started_at", "finished_at"),
        ]

    @admin.display(description="on")
    def on(self, row: Any) -> str:
        """Which list's filter it was."""
        return str(apps.get_model(row.model)._meta.verbose_name_plural)

    @admin.display(description="asked for by")
    def who(self, row: Any) -> Any:
        found = User.objects.using(OPERATOR).filter(pk=row.user_id).first()
        return "" if found is None else link("tenants_user", found.pk, found.email)

    @admin.display(description="state")
    def stands(self, row: Any) -> Any:
        return mark(row.status)

    def panels(self, request: HttpRequest, row: Bulk) -> list[Panel]:
        is_stuck = bool(bulk.stuck([row]))
        every = EVERY if row.finished_at is None and not is_stuck else 0
        shown = {
            "bulk": row, "stuck": is_stuck, "passed": row.done + row.skipped, "every": every,
        }  # fmt: skip
        return [Panel("Progress", "console/bulk.html", shown)]
