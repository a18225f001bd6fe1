"""When a tenant's grace is over nothing is left of it: looked for in the world, not in a ledger."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.db import connections
from django.utils import timezone

from jobs.outcomes import Retry, Snooze, Succeeded
from jobs.registry import kind
from lifecycle import closing, purging, quarantine
from lifecycle.management import looking
from lifecycle.models import Closure
from onboarding import files
from tenants.models import AuditEntry, Domain, Membership, Tenant, User
from tests.lifecycle import residents, stores, traces
from tests.lifecycle.killing import Killer
from tests.notes.models import Note, Notebook
from tests.onboarding.bucket import BACKEND, s3
from tests.onboarding.conftest import SignUpCaller
from tests.onboarding.test_http_steps import billing  # noqa: F401
from tests.onboarding.world import fresh_address
from tests.people import Browser, host_of, join, make_user, platform_key

OPERATOR = "operator"
WHY = "Asked for it, ticket 812."


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nobody remembers that the tenant was open: its caches are this process's."""
    monkeypatch.setattr(purging, "SETTLING", 0.0)


@pytest.fixture(params=["free", pytest.param("pro", marks=pytest.mark.thorough)])
def resident(request, operator, engine):
    """A tenant of each home, furnished."""
    made = residents.settle_in(operator, request.param)
    residents.furnish(made)
    return made


def purge(engine):
    residents.due_now("tenants.close")
    return residents.work(engine, "tenants.close")


def close_now(tenant):
    closing.close_now(tenant_id=tenant.pk, actor="system:test", reason=WHY)


def fresh(tenant):
    return Tenant.objects.using(OPERATOR).get(pk=tenant.pk)


def test_nothing_is_left_but_what_is_documented(resident, engine, superuser):
    number = resident.tenant.pk
    before = traces.found(superuser, resident.words, number)
    assert {word for _, word in before} >= {"email", "slug", "uuid", "number", "files"}
    Tenant.objects.using(OPERATOR).filter(pk=number).update(currency="CHF")
    close_now(resident.tenant)
    assert residents.done(purge(engine))
    assert traces.undocumented(superuser, resident.words, number) == set()
    tenant = fresh(resident.tenant)
    assert (tenant.status, tenant.name, tenant.metadata) == ("closed", "", {})
    assert (tenant.external_id, tenant.currency) == ("", "")
    assert tenant.slug == resident.tenant.slug


@pytest.mark.thorough
def test_it_says_what_it_deleted(resident, engine):
    close_now(resident.tenant)
    came = purge(engine)
    assert residents.done(came), came
    closure = Closure.objects.using(OPERATOR).get(tenant_id=resident.tenant.pk)
    assert (closure.works["deliveries"], closure.people) == (1, 1)
    assert closure.rows > 10
    assert closure.files >= 1
    trail = AuditEntry.objects.using(OPERATOR).filter(tenant_id=resident.tenant.pk)
    last = trail.order_by("-id").values_list("action", "reason", "after__rows")
    assert last[0] == ("tenant.closed", WHY, closure.rows)
    assert trail.filter(action="tenant.works_cancelled", after__works__deliveries=1).exists()


@pytest.mark.thorough
def test_the_search_finds_what_a_purge_forgets(resident, engine, superuser, monkeypatch):
    """The proof's own proof: with one table left out, it is seen."""
    monkeypatch.setattr(purging, "KEPT", purging.KEPT | {"onboarding_pendingonboarding"})
    close_now(resident.tenant)
    assert residents.done(purge(engine))
    left = traces.undocumented(superuser, resident.words, resident.tenant.pk)
    table = "public.onboarding_pendingonboarding"
    assert {(table, "email"), (table, "slug"), (table, "number")} <= left


@pytest.mark.thorough
def test_what_a_move_left_behind_goes_too(engine, operator, superuser):
    resident = residents.settle_in(operator)
    operator.execute(
        "insert into pool.customers_suppression (id, tenant_id, phone, reason, actor)"
        " values (gen_random_uuid(), %s, '+4930', 'requested', 'x')",
        [resident.tenant.pk],
    )
    with connections["owner"].cursor() as cursor:
        cursor.execute(f"create schema {resident.tenant.schema_name}")
    close_now(resident.tenant)
    assert residents.done(purge(engine))
    assert traces.undocumented(superuser, resident.words, resident.tenant.pk) == set()


@pytest.mark.thorough
def test_tables_of_an_extension_are_purged(tenant, engine):
    notebooks, notes = Notebook.objects.using(OPERATOR), Note.objects.using(OPERATOR)
    book = notebooks.create(tenant_id=tenant.pk, title="Mine")
    notes.create(tenant_id=tenant.pk, notebook=book, text="Secret")
    close_now(tenant)
    assert residents.done(purge(engine))
    assert not notebooks.filter(tenant_id=tenant.pk).exists()
    assert not notes.filter(tenant_id=tenant.pk).exists()


@pytest.mark.thorough
def test_a_neighbour_keeps_everything(engine, operator, superuser):
    resident, neighbour = residents.settle_in(operator), residents.settle_in(operator)
    residents.furnish(resident)
    residents.furnish(neighbour)
    before = looking.rows_of(neighbour.tenant)
    close_now(resident.tenant)
    assert residents.done(purge(engine))
    assert looking.rows_of(neighbour.tenant) == before
    assert ("storage", "files") in traces.found(superuser, neighbour.words, neighbour.tenant.pk)


@pytest.mark.thorough
def test_people_who_belong_to_somebody_else_stay(tenant, other_tenant, engine):
    alone, guest, staff = make_user(tenant), make_user(tenant), make_user(tenant, staff=True)
    join(guest, other_tenant, accepted=False)
    close_now(tenant)
    assert residents.done(purge(engine))
    left = set(User.objects.using(OPERATOR).values_list("pk", flat=True))
    assert left & {alone.pk, guest.pk, staff.pk} == {guest.pk, staff.pk}
    assert not Membership.objects.using(OPERATOR).filter(tenant_id=tenant.pk).exists()


def test_it_goes_on_where_its_time_was_up(tenant, engine):
    close_now(tenant)
    residents.due_now(closing.KIND)
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    outcome = purging.run(replace(claim, deadline=0.0))
    assert isinstance(outcome, Snooze)
    assert fresh(tenant).status == "closing"
    assert kind(closing.KIND).step(claim) == Succeeded()
    assert fresh(tenant).status == "closed"


def test_it_waits_for_what_is_under_way(tenant, engine):
    engine.add(tenant=tenant.pk)
    [under_way] = engine.claim(drainer=engine.drainer())
    close_now(tenant)
    [waiting] = purge(engine)
    assert (waiting.delay, waiting.reason) == (purging.BUSY, "parcels are under way")
    engine.settle((under_way, Succeeded()))
    assert residents.done(purge(engine))


def test_another_owners_mark_stops_it(tenant, engine):
    files.write_mark(files.prefix_of(tenant.pk), "slipway tenant of somebody else")
    close_now(tenant)
    [outcome] = purge(engine)
    assert "another owner's mark" in outcome.error
    assert fresh(tenant).status == "closing"
    files.remove(files.prefix_of(tenant.pk))


@pytest.mark.thorough
def test_the_platforms_own_steps_are_undone(billing, operator, engine):  # noqa: F811
    resident = residents.settle_in(operator)
    close_now(resident.tenant)
    billing.answer = (500, {})
    [outcome] = purge(engine)
    assert isinstance(outcome, Retry)
    assert resident.email not in outcome.error
    billing.answer = (200, {})
    assert residents.done(purge(engine))
    assert billing.calls[-1][1]["type"] == "tenant.deprovision"


def test_no_transaction_waits_for_the_storage(tenant, engine, settings):
    stores.Watched.deleted.clear()
    told = settings.STORAGES["tenants"] | {"BACKEND": "tests.lifecycle.stores.Watched"}
    settings.STORAGES = settings.STORAGES | {"tenants": told}
    for n in range(3):
        files.storage().save(f"{files.prefix_of(tenant.pk)}/{n}.txt", ContentFile(b"x"))
    close_now(tenant)
    assert residents.done(purge(engine))
    assert len(stores.Watched.deleted) >= 3
    assert not any(stores.Watched.deleted)
    assert Closure.objects.using(OPERATOR).get(tenant_id=tenant.pk).files >= 3


@pytest.mark.thorough
def test_the_files_of_a_bucket_go_too(settings, operator, engine, superuser):
    with s3() as bucket:
        settings.STORAGES = settings.STORAGES | {
            "tenants": {"BACKEND": BACKEND, "OPTIONS": bucket.options}
        }
        resident = residents.settle_in(operator)
        residents.furnish(resident)
        number = resident.tenant.pk
        assert ("storage", "files") in traces.found(superuser, resident.words, number)
        close_now(resident.tenant)
        assert residents.done(purge(engine))
        assert traces.undocumented(superuser, resident.words, number) == set()


@pytest.mark.thorough
def test_it_goes_on_wherever_it_is_killed(resident, engine, superuser):
    """By SIGKILL after its first statements, after some more, and so on, each in a new process."""
    close_now(resident.tenant)
    residents.due_now(closing.KIND)
    drainer, killed = engine.drainer(), 0
    with Killer() as killer:
        for after in range(1, 500, 3):
            [claim] = engine.claim("jobs", drainer=drainer)
            if not killer.dies(claim, after=after):
                break
            killed += 1
            engine.hand_back(claim)
    assert killed > 15
    assert fresh(resident.tenant).status == "closed"
    assert traces.undocumented(superuser, resident.words, resident.tenant.pk) == set()
    trail = AuditEntry.objects.using(OPERATOR).filter(tenant_id=resident.tenant.pk)
    assert trail.filter(action="tenant.closed").count() == 1


# ---- The address ----


@pytest.mark.thorough
def test_nobody_else_gets_the_address_before_its_quarantine_is_over(operator, engine):
    resident = residents.settle_in(operator)
    slug, tenant = resident.tenant.slug, resident.tenant
    close_now(tenant)
    assert residents.done(purge(engine))
    caller = SignUpCaller(token=platform_key(), address=fresh_address())
    assert caller.sign_up(slug=slug).status_code == 409
    assert Browser(host_of(tenant)).get("/").status_code == 410
    assert not quarantine.over().filter(pk=tenant.pk).exists()
    long_ago = timezone.now() - timedelta(days=366)
    Tenant.objects.using(OPERATOR).filter(pk=tenant.pk).update(closed_at=long_ago)
    assert quarantine.free() == 1
    assert not Domain.objects.using(OPERATOR).filter(tenant_id=tenant.pk).exists()
    assert caller.sign_up(slug=slug).status_code == 202
    assert fresh(tenant).slug.startswith("c0--")
