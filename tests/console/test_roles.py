"""Who may do what in the console, and how operators come and go."""

import json
import uuid

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command

from config.admin.acting import ROW
from config.admin.acts import Asked, standing
from console import operators
from console.errors import AlreadyOperator, LastAdministrator, MembersAddress, UnknownOperator
from console.models import Deed
from console.roles import Role, complete
from jobs import services
from jobs.admin import DeadLetterAdmin, JobAdmin
from jobs.errors import StaleState
from jobs.models import DeadLetter
from jobs.states import State
from tenants.models import AuditEntry, User
from tenants.routers import as_operator
from tests.console import acting
from tests.console.operators import job, letter, sign_up
from tests.people import PASSWORD, Browser, csrf_token, make_user

OPERATORS_DEEDS = {
    "replay",
    "discard",
    "cancel",
    "retry",
    "steer",
    "suspend",
    "resume_onboarding",
    "undo_onboarding",
}
ADMINISTRATORS_DEEDS = {"close", "plan", "export", "erase", "revoke", "operate"}
WHY = {"actor": "system:test", "reason": "a test"}


def an_address() -> str:
    return f"{uuid.uuid4().hex[:12]}@example.org"


def add(role: Role = Role.VIEWER):
    return operators.add(email=an_address(), role=role, **WHY)


def signed_in(role: Role) -> Browser:
    made = add(role)
    browser = Browser()
    browser.post("/console/login/?next=/console/", username=made.user.email, password=made.password)
    return browser


def fresh(user: User) -> User:
    return User.objects.using("operator").get(pk=user.pk)


def may(user: User, deed: str) -> bool:
    with as_operator():
        return fresh(user).has_perm(deed)


def entries(user: User, action: str) -> list[AuditEntry]:
    rows = AuditEntry.objects.using("operator").filter(target=f"user:{user.pk}", action=action)
    return list(rows)


@pytest.mark.parametrize(
    ("role", "deeds"),
    [
        (Role.VIEWER, set()),
        (Role.OPERATOR, OPERATORS_DEEDS),
        (Role.ADMINISTRATOR, OPERATORS_DEEDS | ADMINISTRATORS_DEEDS),
    ],
)
def test_a_role_may_see_everything_and_do_what_it_is_for(role, deeds):
    group = Group.objects.using("operator").get(name=role)
    names = set(group.permissions.values_list("content_type__app_label", "codename"))
    assert {code for app, code in names if not code.startswith("view_")} == deeds
    everything = Permission.objects.using("operator").filter(codename__startswith="view_")
    assert {one for one in names if one[1].startswith("view_")} == set(
        everything.values_list("content_type__app_label", "codename")
    )
    assert {("jobs", "view_job"), ("customers", "view_customer"), ("works", "view_parcel")} <= names


def test_every_deed_is_given_to_somebody():
    assert {code for code, _ in Deed._meta.permissions} == OPERATORS_DEEDS | ADMINISTRATORS_DEEDS


def test_nobody_may_see_second_factors():
    assert not Permission.objects.using("operator").filter(codename__icontains="secondfactor")


def test_a_role_is_made_whole_again_by_migrating():
    group = Group.objects.using("operator").get(name=Role.VIEWER)
    some = list(group.permissions.all()[:3])
    group.permissions.remove(*some)
    group.permissions.add(Permission.objects.using("operator").get(codename="close"))
    complete("operator")
    assert set(some) <= set(group.permissions.all())
    assert not group.permissions.filter(codename="close").exists()


def test_an_operator_is_added_and_signs_in():
    made = operators.add(email=an_address().upper(), role=Role.OPERATOR, **WHY)
    assert made.user.email == made.user.email.lower()
    browser = Browser()
    answer = browser.post(
        "/console/login/?next=/console/", username=made.user.email, password=made.password
    )
    assert answer.status_code == 302
    assert browser.get("/console/").status_code == 200
    [entry] = entries(made.user, "operator.added")
    assert (entry.actor, entry.reason, entry.after) == (*WHY.values(), {"role": "operator"})
    assert made.password not in json.dumps(entry.after)


def test_who_is_one_already_or_a_tenants_member_is_refused(tenant):
    made = add()
    with pytest.raises(AlreadyOperator):
        operators.add(email=made.user.email, role=Role.VIEWER, **WHY)
    member = make_user(tenant)
    with pytest.raises(MembersAddress):
        operators.add(email=member.email, role=Role.VIEWER, **WHY)
    assert not fresh(member).is_staff


def test_a_role_changes_and_says_from_what():
    made = add(Role.VIEWER)
    assert operators.set_role(user=made.user, role=Role.ADMINISTRATOR, **WHY)
    assert may(made.user, "console.close")
    assert not operators.set_role(user=made.user, role=Role.ADMINISTRATOR, **WHY)
    [entry] = entries(made.user, "operator.role")
    assert (entry.before, entry.after) == ({"role": "viewer"}, {"role": "administrator"})


def test_a_superuser_who_becomes_less_is_none_any_more():
    add(Role.ADMINISTRATOR)
    staff = make_user(staff=True)
    operators.set_role(user=staff, role=Role.VIEWER, **WHY)
    assert not fresh(staff).is_superuser
    assert not may(staff, "console.replay")


def test_who_is_shut_out_is_out_with_the_next_click_and_may_be_let_in_again():
    made = add(Role.OPERATOR)
    browser = Browser()
    browser.post("/console/login/?next=/console/", username=made.user.email, password=made.password)
    assert browser.get("/console/").status_code == 200
    assert operators.disable(user=made.user, **WHY)
    assert browser.get("/console/").status_code == 302
    assert not operators.disable(user=made.user, **WHY)
    again = operators.add(email=made.user.email, role=Role.VIEWER, **WHY)
    assert again.user.pk == made.user.pk
    assert again.password != made.password
    assert fresh(made.user).is_active


def test_the_last_administrator_stays():
    administrators = [one.user for one in operators.listed() if one.role == Role.ADMINISTRATOR]
    last = add(Role.ADMINISTRATOR).user
    User.objects.using("operator").filter(pk__in=[one.pk for one in administrators]).update(
        is_active=False
    )
    try:
        with pytest.raises(LastAdministrator):
            operators.disable(user=last, **WHY)
        with pytest.raises(LastAdministrator):
            operators.set_role(user=last, role=Role.VIEWER, **WHY)
        assert fresh(last).is_active
    finally:
        alive = [one.pk for one in administrators if one.is_active]
        User.objects.using("operator").filter(pk__in=alive).update(is_active=True)


def test_the_command_does_the_same(capsys):
    add(Role.ADMINISTRATOR)  # Another one: the last one stays.
    email = an_address()
    call_command("operators", "add", email, "--role", "operator", "--reason", "x", "--dry-run")
    assert "nothing was changed" in capsys.readouterr().out
    with pytest.raises(UnknownOperator):
        operators.find(email)
    call_command("operators", "add", email, "--role", "operator", "--reason", "on call", "--json")
    assert json.loads(capsys.readouterr().out)["email"] == email
    call_command("operators", "role", email, "administrator", "--reason", "leads")
    call_command("operators", "reset-otp", email, "--reason", "lost", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"changed": False}
    call_command("operators", "disable", email, "--reason", "left")
    capsys.readouterr()
    call_command("operators", "list", "--json")
    [row] = [one for one in json.loads(capsys.readouterr().out) if one["email"] == email]
    assert (row["role"], row["active"], row["second_factor"]) == ("administrator", False, False)
    [entry] = entries(operators.find(email), "operator.disabled")
    assert entry.actor.startswith("system:terminal:")
    with pytest.raises(CommandError, match="no operator"):
        call_command("operators", "disable", an_address(), "--reason", "x")


def test_an_administrator_does_the_same_in_the_console():
    browser = signed_in(Role.ADMINISTRATOR)
    email = an_address()
    page = browser.post(
        "/console/operators/", email=email, name="Ada", role="viewer", reason="on call"
    )
    assert page.status_code == 200
    user = operators.find(email)
    password = page.content.decode().partition("<p><code>")[2].partition("</code>")[0]
    assert user.check_password(password)
    path = f"/console/operators/{user.pk}/"
    assert browser.post(path, act="role", role="operator", reason="").status_code == 400
    assert operators.listed([user.pk])[0].role == "viewer"
    assert browser.post(path, act="role", role="operator", reason="more").status_code == 302
    assert operators.listed([user.pk])[0].role == "operator"
    assert browser.post(path, act="disable", reason="left").status_code == 302
    assert not fresh(user).is_active
    [entry] = entries(user, "operator.disabled")
    assert entry.actor.startswith("operator:")
    assert entry.reason == "left"
    assert browser.get(path).status_code == 200  # To look changes nothing.


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_nobody_else_sees_or_changes_operators(role):
    browser = signed_in(role)
    other = add()
    path = f"/console/operators/{other.user.pk}/"
    for each in ("/console/operators/", path):
        assert browser.get(each).status_code == 403
    made_by_hand = browser.post(path, form="/console/password_change/", act="disable", reason="x")
    assert made_by_hand.status_code == 403
    assert fresh(other.user).is_active


def test_the_account_that_prepare_makes_is_an_administrator():
    staff = make_user(staff=True)  # As prepare makes it: a superuser.
    [shown] = operators.listed([staff.pk])
    assert shown.role == Role.ADMINISTRATOR
    assert fresh(staff).check_password(PASSWORD)


def test_giving_up_a_sign_up_by_its_dead_letter_takes_the_permission_to_undo(tenant):
    sign = sign_up(tenant, state=State.DEAD_LETTER, attempts=2, last_error="HTTP 500")
    of_sign_up = letter(sign, "onboarding")
    of_job = letter(job(tenant, state=State.DEAD_LETTER, attempts=5), "jobs")
    made = add(Role.OPERATOR)
    deeds = Permission.objects.using("operator").filter(content_type__app_label="console")
    with as_operator():
        group = Group.objects.using("operator").create(name=uuid.uuid4().hex)
        seen = Permission.objects.using("operator").filter(codename__startswith="view_")
        group.permissions.set([*seen, deeds.get(codename="discard")])
        made.user.groups.set([group])
    browser = Browser()
    browser.post("/console/login/?next=/console/", username=made.user.email, password=made.password)
    path = "/console/jobs/deadletter/act/discard/"
    for each, resolved in ((of_sign_up, ""), (of_job, "discarded")):
        page = browser.get("/console/password_change/")
        seen_as = f"{each.pk}={standing(each)}"
        token = csrf_token(page.content.decode())
        fields = {"csrfmiddlewaretoken": token, "reason": "why", "seen": seen_as}
        answer = browser.client.post(f"{path}?{ROW}={each.pk}", fields, headers=browser.headers)
        assert answer.status_code == 302
        each.refresh_from_db(using="operator")
        assert (each.resolution or "") == resolved
    act = next(act for act in DeadLetterAdmin.acts if act.name == "discard")
    with as_operator():
        letters = DeadLetter.objects.using("operator").filter(pk=of_sign_up.pk)
        assert not letters.filter(act.within_reach_of(fresh(made.user)))
        operator = add(Role.OPERATOR).user
        assert letters.filter(act.within_reach_of(fresh(operator)))
        assert act.reached(fresh(operator), [of_sign_up]) == {of_sign_up.pk}


@pytest.mark.parametrize(
    "kind",
    [
        "tenants.move",
        pytest.param("tenants.export", marks=pytest.mark.thorough),
        pytest.param("customers.erase", marks=pytest.mark.thorough),
    ],
)
def test_whoever_may_not_begin_a_job_does_not_give_it_up_by_hand_made_posts(tenant, kind):
    """Moving a tenant's plan is the administrator's: so is cancelling the move."""
    waits = job(tenant, kind=kind, state=State.SCHEDULED)
    dead = acting.dead(job(tenant, kind=kind), "jobs")
    its_letter = DeadLetter.objects.using("operator").get(work_id=dead.pk)
    tried = ((waits, "cancel"), (dead, "discard"), (its_letter, "discard"))
    operator, administrator = acting.Signed(Role.OPERATOR), acting.Signed(Role.ADMINISTRATOR)
    for row, act in tried:
        path = acting.act_url(row, act).partition("?")[0].removesuffix(f"act/{act}/")
        page = operator.html(f"{path}{row.pk}/change/")
        assert f"/act/{act}/" not in page
        assert "/act/replay/" in page or row is waits
        answer = operator.post(acting.act_url(row, act), reason="by hand", seen=acting.seen(row))
        assert "may not do this to one of its kind" in operator.told(answer)
        assert acting.standing(acting.fresh(row)) == acting.standing(row)
        of_all = acting.act_url(row, act).partition("?")[0]
        found = operator.html(f"{of_all}?act.all=1&tenant={tenant.slug}")
        assert "There is nothing here that this can be done to" in found
    assert acting.entries("by hand") == []
    for row, act in tried[:2]:
        administrator.told(administrator.confirm(acting.act_url(row, act), reason="for good"))
        assert acting.fresh(row).state != row.state


def test_nobody_cancels_or_discards_the_purge_of_a_closing_tenant(tenant):
    waits = job(tenant, kind="tenants.close", state=State.SCHEDULED)
    dead = job(tenant, kind="tenants.close", state=State.DEAD_LETTER, attempts=5)
    its_letter = letter(dead, "jobs")
    said = {"actor": "operator:1", "reason": "by mistake"}
    for one in (waits, dead):
        with pytest.raises(StaleState, match="reopen the tenant"):
            services.cancel(queue="jobs", work_id=one.pk, **said)
    with pytest.raises(StaleState):
        services.discard(dead_letter=its_letter, **said)
    for name, one in (("cancel", waits), ("discard", dead)):
        act = next(act for act in JobAdmin.acts if act.name == name)
        assert not act.fits(one)
        rows = type(one).objects.using("operator").filter(pk=one.pk)
        assert not rows.filter(act.within)
        act.chunk(rows, Asked(**said, values={}))
        assert rows.get().state == one.state
