from django.apps import AppConfig


class GreetingsConfig(AppConfig):
    """An extension: each tenant is greeted when it is made, and then loudly."""

    name = "tests.greetings"
    tenant_app = True
    slipway = {
        "PROVISIONING_STEPS": [{"name": "greeting", "step": "tests.greetings.steps.Greet"}],
        "JOBS": {"greetings.shout": {"step": "tests.greetings.steps.shout"}},
        "EVENT_TYPES": {"greeting.made": {"description": "A tenant was greeted.", "schema": {}}},
    }
