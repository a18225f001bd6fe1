"""The REST API of campaigns, and of what they are made of."""

from django.urls import URLPattern, path

from campaigns.views import accounts, callbacks, campaigns, messages, segments, templates

urlpatterns: list[URLPattern] = [
    path("v1/campaigns", campaigns.Campaigns.as_view()),
    path("v1/campaigns/<str:campaign_id>", campaigns.OneCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/launch", campaigns.LaunchCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/take-back", campaigns.TakeBackCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/pause", campaigns.PauseCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/resume", campaigns.ResumeCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/cancel", campaigns.CancelCampaign.as_view()),
    path("v1/campaigns/<str:campaign_id>/retry-failed", campaigns.RetryFailed.as_view()),
    path("v1/campaigns/<str:campaign_id>/resolve-unknown", campaigns.ResolveUnknown.as_view()),
    path("v1/campaigns/<str:campaign_id>/test-send", campaigns.TestSend.as_view()),
    path("v1/campaigns/<str:campaign_id>/messages", messages.Messages.as_view()),
    path("v1/campaigns/<str:campaign_id>/skips", messages.Skips.as_view()),
    path("v1/campaigns/<str:campaign_id>/results.csv", messages.Results.as_view()),
    path("v1/accounts", accounts.Accounts.as_view()),
    path("v1/accounts/<str:account_id>", accounts.OneAccount.as_view()),
    path("v1/accounts/<str:account_id>/verify", accounts.VerifyAccount.as_view()),
    path("v1/accounts/<str:account_id>/pause", accounts.PauseAccount.as_view()),
    path("v1/accounts/<str:account_id>/resume", accounts.ResumeAccount.as_view()),
    path("v1/callbacks/<str:account_id>", callbacks.Callback.as_view()),
    path("v1/segments", segments.Segments.as_view()),
    # Before what takes any word for an id.
    path("v1/segments/preview", segments.PreviewSegment.as_view()),
    path("v1/segments/<str:segment_id>", segments.OneSegment.as_view()),
    path("v1/templates", templates.Templates.as_view()),
    path("v1/templates/<str:template_id>", templates.OneTemplate.as_view()),
    path("v1/templates/<str:template_id>/render", templates.RenderTemplate.as_view()),
]
