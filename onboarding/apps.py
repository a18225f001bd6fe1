from django.apps import AppConfig


class OnboardingConfig(AppConfig):
    """From a sign-up to a ready tenant."""

    name = "onboarding"
