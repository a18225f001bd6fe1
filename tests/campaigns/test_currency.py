"""Amounts are in the tenant's own currency, and segments and previews say in which."""

import pytest

from tenants.models import Tenant

RICH = {"field": "lifetime_value", "op": ">=", "value": "100.00"}


def say(desk, **metadata):
    """Let the tenant's metadata be these."""
    rows = Tenant.objects.using("operator").filter(pk=desk.tenant.pk)
    rows.update(metadata=metadata)


def test_segments_and_previews_name_the_tenants_currency(desks):
    say(desks, currency="CHF")
    desks.add_many(2, lifetime_value=100)
    made = desks.made("/segments", {"name": "Rich", "filter": RICH})
    path = f"/segments/{made['id']}"
    assert made["currency"] == "CHF"
    assert desks.get(path).json() == made
    assert desks.patch(path, {"name": "Richer"}).json()["currency"] == "CHF"
    assert [one["currency"] for one in desks.get("/segments").json()["data"]] == ["CHF"]
    shown = desks.post("/segments/preview", {"filter": RICH}).json()
    assert (shown["count"], shown["currency"]) == (2, "CHF")


@pytest.mark.parametrize(
    "metadata",
    [
        {}, {"currency": "francs"}, {"currency": 756}, {"currency": ["CHF"]},
        {"currency": "XTS"}, {"currency": "DEM"},
    ],
)  # fmt: skip
def test_who_has_said_none_has_the_platforms(desk, settings, metadata):
    say(desk, **metadata)
    assert desk.post("/segments/preview", {"filter": RICH}).json()["currency"] is None
    customers = settings.SLIPWAY["CUSTOMERS"] | {"currency": "EUR"}
    settings.SLIPWAY = settings.SLIPWAY | {"CUSTOMERS": customers}
    assert desk.post("/segments/preview", {"filter": RICH}).json()["currency"] == "EUR"


def test_the_platforms_later_word_goes_before_that_of_the_sign_up(desk):
    say(desk, currency="CHF")
    rows = Tenant.objects.using("operator").filter(pk=desk.tenant.pk)
    rows.update(currency="EUR", limits={"currency": "USD"})  # No limit says it.
    desk.add_many(1, lifetime_value=100)
    shown = desk.post("/segments/preview", {"filter": RICH}).json()
    assert (shown["count"], shown["currency"]) == (1, "EUR")  # The same number, not converted.
