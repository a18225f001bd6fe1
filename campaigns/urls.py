"""The REST API of campaigns, and of what they are made of."""

from django.urls import URLPattern, path

from campaigns.views import campaigns, messages

urlpatterns: list[URLPattern] = [
    path("v1/campaigns", campaigns.Campaigns.as_view()),
    path("v1/campaigns/<str:campaign_id>", campaigns.OneCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/launch", campaigns.LaunchCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/pause", campaigns.PauseCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/resume", campaigns.ResumeCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/cancel", campaigns.CancelCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/retry-failed", campaigns.RetryFailed.as_view()),
    path("v1/campaigns/<str:campaign_id>/test-send", campaigns.TestSend.as_view()),
    path("v1/campaigns/<str:campaign_id>/messages", messages.Messages.as_view()),
    path("v1/campaigns/<str:campaign_id>/skips", messages.Skips.as_view()),
    path("v1/campaigns/<str:campaign_id>/results.csv", messages.Results.as_view()),
]
