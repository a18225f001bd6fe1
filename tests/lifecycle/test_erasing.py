"""Erasing a person: their address is in no row afterwards, and what they did still has its id."""

import pytest

from jobs.models import DeadLetter, Job
from lifecycle import erasing
from lifecycle.errors import PersonNotFound, SoleOwner
from tenants.models import AuditEntry, Membership, Session, User
from tests.lifecycle import residents
from tests.people import Browser, host_of, join, make_user

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
