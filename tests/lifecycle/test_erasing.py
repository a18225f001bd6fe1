"""Erasing a person: their address is in no row afterwards, and what they did still has its id."""

import zipfile

import pytest

from jobs.models import DeadLetter, Job
from jobs.outcomes import Snooze, Succeeded
from lifecycle import erasing, exporting
from lifecycle.errors import PersonNotFound, SoleOwner
from lifecycle.models import Export
from tenants import files
from tenants.models import AuditEntry, Membership, Session, User
from tests.lifecycle import residents
from tests.people import Browser, bearer, host_of, join, make_user, platform_key

OPERATOR, WHY = "operator", "Asked for it, ticket 815."
_TEXTS = """
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname in ('public', 'pool') order by 1
"""


def erase(user, **how):
    return erasing.erase(email=user.email, actor="system:test", reason=WHY, **how)


def shown(superuser, text):
    """The tables in which a row shows this text."""
    return [
        table
        for (table,) in superuser.execute(_TEXTS).fetchall()
        if superuser.execute(
            f"select exists (select from {table} r where strpos(lower(r::text), lower(%s)) > 0)",
            [text],
        ).fetchone()[0]
    ]


def test_a_members_address_is_nowhere_afterwards(tenant, other_tenant, superuser):
    user, owner = make_user(tenant, role="member"), make_user(tenant)
    join(user, other_tenant)
    Browser(host_of(tenant)).login(user)
    Browser(host_of(tenant)).login(owner)
    erased = erase(user)
    assert (erased.tenants, erased.sessions) == (2, 1)
    assert shown(superuser, user.email) == []
    assert not User.objects.using(OPERATOR).filter(pk=user.pk).exists()
    assert not Membership.objects.using(OPERATOR).filter(user_id=user.pk).exists()
    assert Session.objects.using(OPERATOR).filter(tenant_id=tenant.pk).count() == 1


def test_a_browser_that_was_signed_in_is_out(tenant):
    user = make_user(tenant, role="member")
    browser = Browser(host_of(tenant))
    browser.login(user)
    assert browser.get("/").status_code == 200
    erase(user)
    assert user.email not in browser.get("/").content.decode()


def test_an_owners_sign_up_and_mails_forget_the_address(operator, engine, superuser):
    resident = residents.settle_in(operator)
    person = User.objects.using(OPERATOR).get(email=resident.email)
    told = {"to": [resident.email], "subject": "Hello", "text": f"Dear {resident.email}"}
    waiting = Job.objects.using(OPERATOR).create(
        tenant_id=resident.tenant.pk, kind="mail.send", args=told, max_attempts=1, lane="x",
        state="dead_letter",
    )  # fmt: skip
    letter = DeadLetter.objects.using(OPERATOR).create(
        tenant_id=resident.tenant.pk, queue="jobs", work_id=waiting.pk, reason="failed"
    )
    assert "public.onboarding_pendingonboarding" in shown(superuser, resident.email)
    erased = erase(person, ownerless=True)
    assert (erased.sign_ups, erased.mails) == (1, 1)
    assert shown(superuser, resident.email) == []
    waiting.refresh_from_db(using=OPERATOR)
    letter.refresh_from_db(using=OPERATOR)
    assert (waiting.state, letter.resolution) == ("cancelled", "cancelled")


def test_the_only_owner_of_a_tenant_is_not_erased_unnoticed(tenant):
    user = make_user(tenant)
    with pytest.raises(SoleOwner, match=tenant.slug):
        erase(user)
    assert User.objects.using(OPERATOR).filter(pk=user.pk).exists()
    make_user(tenant)
    assert erase(user).ownerless == []


def archive_of(tenant, engine) -> Export:
    made = exporting.begin(tenant_id=tenant.pk, actor="system:test")
    assert residents.done(residents.work(engine, exporting.KIND))
    return Export.objects.using(OPERATOR).get(pk=made.pk)


def test_archives_that_show_the_person_go(client, tenant, other_tenant, engine):
    """Those of their tenants, with their files; a neighbour's stays."""
    user, _ = make_user(tenant, role="member"), make_user(tenant)
    mine, neighbours = archive_of(tenant, engine), archive_of(other_tenant, engine)
    with zipfile.ZipFile(files.storage().open(mine.file)) as archived:
        assert user.email in archived.read("tenants_user.jsonl").decode()
    assert erasing.look(email=user.email).archives == 1
    assert erase(user).archives == 1
    assert not files.storage().exists(mine.file)
    assert files.storage().exists(neighbours.file)
    path = f"/v1/tenants/{tenant.slug}/exports/exp_{mine.pk}/file"
    assert client.get(path, headers=bearer(platform_key())).status_code == 404


@pytest.mark.thorough
def test_an_archive_whose_file_cannot_be_deleted_now_is_given_to_nobody(
    client, tenant, engine, settings
):
    """And the next tidying deletes it."""
    user, _ = make_user(tenant, role="member"), make_user(tenant)
    mine = archive_of(tenant, engine)
    whole = settings.STORAGES
    settings.STORAGES = whole | {"tenants": {"BACKEND": "tests.lifecycle.stores.Stubborn"}}
    erase(user)
    settings.STORAGES = whole
    assert files.storage().exists(mine.file)
    path = f"/v1/tenants/{tenant.slug}/exports"
    platform = bearer(platform_key())
    assert client.get(path, headers=platform).json()["data"] == []
    assert client.get(f"{path}/exp_{mine.pk}/file", headers=platform).status_code == 404
    assert exporting.forget_old() >= 1
    assert not files.storage().exists(mine.file)


def test_an_archive_that_is_being_written_begins_anew(tenant, engine, monkeypatch):
    user, _ = make_user(tenant, role="member"), make_user(tenant)
    made = exporting.begin(tenant_id=tenant.pk, actor="system:test")
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    monkeypatch.setattr(exporting._Teller, "__call__", lambda self, table, rows: erase_once(user))
    assert isinstance(exporting.run(claim), Snooze)
    monkeypatch.undo()
    assert exporting.run(claim) == Succeeded()
    found = Export.objects.using(OPERATOR).get(pk=made.pk)
    place = found.file.rpartition("/")[0]
    assert files.storage().listdir(place)[1] == [found.file.rpartition("/")[2]]
    with zipfile.ZipFile(files.storage().open(found.file)) as archived:
        assert user.email not in archived.read("tenants_user.jsonl").decode()


def erase_once(user):
    if User.objects.using(OPERATOR).filter(pk=user.pk).exists():
        erase(user)


def test_an_operator_is_erased_too(superuser):
    operator = make_user(staff=True)
    entry = AuditEntry.objects.using(OPERATOR).create(
        actor=f"operator:{operator.pk}", action="tenant.suspended", target="tnt_x"
    )
    erase(operator)
    assert shown(superuser, operator.email) == []
    entry.refresh_from_db(using=OPERATOR)
    assert entry.actor == f"operator:{operator.pk}"
    said = AuditEntry.objects.using(OPERATOR).get(action="person.erased", target=entry.actor)
    assert (said.reason, said.tenant_id) == (WHY, None)


def test_the_trail_of_each_tenant_says_so_by_the_id(tenant):
    user = make_user(tenant, role="member")
    erase(user)
    entry = AuditEntry.objects.using(OPERATOR).get(tenant_id=tenant.pk, action="person.erased")
    assert (entry.target, entry.reason) == (f"user:{user.pk}", WHY)


def test_looking_changes_nothing(tenant):
    user = make_user(tenant)
    found = erasing.look(email=user.email.upper())
    assert (found.tenants, found.ownerless) == (1, [tenant.slug])
    assert User.objects.using(OPERATOR).filter(pk=user.pk).exists()
    with pytest.raises(PersonNotFound):
        erasing.look(email="nobody@example.org")
