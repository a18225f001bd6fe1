"""The finisher: POST /v1/campaigns that does all of it before it answers, as such code begins.

The body, its checks, the view and the statements that write the audience are Slipway's own: what
differs is when they run, and nothing else.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import materialising, moves, services
from campaigns.generators import Content, generator
from campaigns.models import Campaign
from campaigns.serializers.campaigns import CampaignWish, campaign_as_json
from campaigns.states import CampaignState
from campaigns.views.campaigns import Campaigns
from config.api import decode

MOST = 5_000  # Customers that one statement looks at.


def generate(brief: Mapping[str, Any], campaign: Campaign) -> Content:
    """Takes as long as a service that writes texts: GENERATION_SECONDS."""
    time.sleep(float(os.environ["GENERATION_SECONDS"]))
    return Content("Hello {{ name }}")


class CampaignsInline(Campaigns):
    """POST /v1/campaigns: validates, writes, generates, writes the audience, then answers."""

    def post(self, request: Request) -> Response:
        wish = decode(request, CampaignWish, lines=True).wish()
        # As a draft: no job is left to be done for it.
        draft = replace(wish, draft=True)
        campaign, _ = services.create(wish=draft, actor=request.caller.actor, key=None)
        with transaction.atomic():
            moves.move(campaign, CampaignState.MATERIALISING, start=[CampaignState.DRAFT])
        content = generator(campaign.generator)(campaign.brief, campaign)
        Campaign.objects.filter(pk=campaign.pk).update(content=content.as_json())
        campaign.content = content.as_json()
        with transaction.atomic():
            materialising._start(campaign)
            while not materialising._write(campaign, materialising.Pace(MOST, torn=False)):
                pass
            materialising._end(campaign)
        return Response(campaign_as_json(services.find(campaign.pk)), status=201)


urlpatterns = [
    path("v1/campaigns", CampaignsInline.as_view()),
    path("", include("config.urls")),
]
