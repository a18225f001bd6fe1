"""Sign-ups on the platform's own host."""

from django.urls import path

from onboarding import views

urlpatterns = [
    path("v1/onboard", views.Onboard.as_view(), name="onboard"),
    path("v1/onboard/<str:request_id>", views.OnboardingStatus.as_view(), name="onboarding"),
    path("v1/onboard/<str:request_id>/claim", views.Claim.as_view(), name="claim"),
    path("v1/onboard/<str:request_id>/resend", views.Resend.as_view(), name="resend"),
    path(
        "v1/onboard/<str:request_id>/steps/<str:name>",
        views.StepCallback.as_view(),
        name="step-callback",
    ),
    path("v1/workspace", views.Workspace.as_view(), name="workspace"),
    path("v1/activity", views.Activity.as_view(), name="activity"),
]
