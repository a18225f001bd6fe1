"""Settings that would fail a deed are told at the start."""

import pytest

from webhooks.checks import settings_of_events_are_sound


def found(settings, **said) -> list[str]:
    settings.SLIPWAY = settings.SLIPWAY | said
    return [error.id for error in settings_of_events_are_sound(None)]


@pytest.mark.parametrize("name", ["tenant.plan.changed", "invoice.paid", "tenant.Upgraded", "x"])
def test_a_type_that_the_database_does_not_tell_the_platform_is_an_error(settings, name):
    assert found(settings, PLATFORM_EVENTS=[name]) == ["webhooks.E001"]


def test_a_type_that_it_tells_is_none(settings):
    assert found(settings, PLATFORM_EVENTS=["tenant.plan_changed"]) == []


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"pattern": "a+"}, {"$ref": "https://example.org/"}]
)
def test_a_schema_that_cannot_be_kept_to_is_an_error(settings, schema):
    assert found(settings, EVENT_TYPES={"a.b": {"schema": schema}}) == ["webhooks.E003"]


def test_a_name_that_nobody_could_publish_is_an_error(settings):
    assert found(settings, EVENT_TYPES={"a..b": {}}) == ["webhooks.E002"]


def test_sound_types_pass(settings):
    sound = {"a.b": {"schema": {"type": "object"}}, "c": {"description": "No schema."}}
    assert found(settings, EVENT_TYPES=sound) == []
