"""Which codes are currencies', where somebody says one."""

from importlib import import_module

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from tenants.currencies import ACTIVE, flaw
from tenants.models import Tenant


@pytest.mark.parametrize("code", ["EUR", "USD", "JPY", "CHF", "INR", "XAF", "XOF", "XPF", "XCD"])
def test_what_people_pay_with_is_one(code):
    assert flaw(code) is None


@pytest.mark.parametrize(
    ("code", "successor"), [("BGN", "EUR"), ("HRK", "EUR"), ("ANG", "XCG"), ("ZWL", "ZWG")]
)
def test_what_its_country_gave_up_is_none_and_what_it_has_now_is_one(code, successor):
    assert flaw(code)
    assert flaw(successor) is None


@pytest.mark.parametrize(
    "code",
    [
        *("XTS", "XXX"),  # For tests; no currency at all.
        *("XAU", "XAG", "XPT", "XPD"),  # Metals.
        *("XBA", "XBB", "XBC", "XBD", "XDR", "XSU", "XUA", "XAD"),  # Bonds and units of account.
        *("BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI"),  # Funds.
    ],
)
def test_what_no_shop_is_paid_in_is_none_though_iso_lists_it(code):
    assert flaw(code)


@pytest.mark.parametrize("said", ["eur", " EUR", "EUR\n", "€", "euro", "", None, 978, ["EUR"]])
def test_what_is_no_code_is_none(said):
    assert flaw(said)


def test_each_has_three_letters():
    assert len(ACTIVE) == 156
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in ACTIVE)


def let_everybodys_be(settings, said):
    customers = settings.SLIPWAY["CUSTOMERS"] | {"currency": said}
    settings.SLIPWAY = settings.SLIPWAY | {"CUSTOMERS": customers}


@pytest.mark.parametrize("said", [None, "EUR"])
def test_the_setting_may_be_one_or_say_nothing(settings, said):
    let_everybodys_be(settings, said)
    call_command("check", "--tag", "tenancy")


@pytest.mark.parametrize("said", ["euro", "XXX", "", 978])
def test_a_setting_that_is_none_fails_a_check_that_says_what_one_is(settings, said):
    let_everybodys_be(settings, said)
    with pytest.raises(SystemCheckError) as failed:
        call_command("check", "--tag", "tenancy")
    told = str(failed.value)
    assert f'SLIPWAY["CUSTOMERS"]["currency"] is {said!r}.' in told
    assert "such as EUR" in told


def test_a_migration_takes_a_currency_out_of_the_limits(tenant):
    migration = import_module("tenants.migrations.0008_currency")
    row = Tenant.objects.using("owner").filter(pk=tenant.pk)
    row.update(limits={"currency": "CHF", "endpoints": 3}, currency="")
    with connections["owner"].cursor() as cursor:
        cursor.execute(migration.MOVE)
        assert row.values_list("currency", "limits").get() == ("CHF", {"endpoints": 3})
        cursor.execute(migration.MOVE_BACK)
    assert row.get().limits == {"currency": "CHF", "endpoints": 3}
