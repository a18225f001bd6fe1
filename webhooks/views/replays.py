"""Replays: everything that a filter finds, sent again or given up in the background."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from jobs.models import Replay
from webhooks import replaying
from webhooks.errors import ReplayNotFound
from webhooks.replaying import QUEUE
from webhooks.serializers.replays import (
    CountAnswer,
    ReplayAnswer,
    ReplayWish,
    count_as_json,
    replay_as_json,
)
from webhooks.views.owner import OwnerView


class Replays(OwnerView):
    """GET and POST /v1/replays."""

    scopes = {"GET": "deliveries:read", "POST": "deliveries:write"}
    bodies = {"POST": ReplayWish}
    answers = {"GET": Page[ReplayAnswer], "POST": {200: CountAnswer, 202: ReplayAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        rows = Replay.objects.filter(queue=QUEUE).order_by("-id")
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        found = list(rows[: limit + 1])
        stuck = replaying.stuck(found)
        show = lambda one: replay_as_json(one, stuck=one.pk in stuck)  # noqa: E731
        return Response(page(found, limit=limit, show=show, place=_place))

    def post(self, request: Request) -> Response:
        wish = decode(request, ReplayWish)
        selection = wish.selection(self.owner(request).id)
        if wish.dry_run:
            found = replaying.count(selection=selection, action=wish.what)
            return Response(count_as_json(found))
        begun = replaying.begin(
            selection=selection,
            action=wish.what,
            actor=self.caller(request).actor,
            reason=wish.reason,
        )
        shown = replay_as_json(begun)
        return Response(shown, status=202, headers={"Location": f"{request.path}/{shown['id']}"})


class OneReplay(OwnerView):
    """GET and DELETE /v1/replays/{id}: how far it is; do no more of it."""

    scopes = {"GET": "deliveries:read", "DELETE": "deliveries:write"}
    answers = {"GET": ReplayAnswer, "DELETE": {204: None}}

    def get(self, request: Request, replay_id: str) -> Response:
        found = _find(replay_id)
        return Response(replay_as_json(found, stuck=found.pk in replaying.stuck([found])))

    def delete(self, request: Request, replay_id: str) -> Response:
        actor = self.caller(request).actor
        replaying.end(found=_find(replay_id), actor=actor, reason="asked for through the API")
        return Response(status=204)


def _find(replay_id: str) -> Replay:
    found = Replay.objects.filter(pk=parse_id("rpl", replay_id), queue=QUEUE).first()
    if found is None:
        raise ReplayNotFound
    return found


def _place(replay: Replay) -> str:
    return str(replay.pk)
