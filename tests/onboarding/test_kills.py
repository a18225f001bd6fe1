"""Each step killed before, during and after its effect, in each plan; and while it is undone."""

import subprocess
import sys
from signal import SIGKILL
from uuid import uuid4

import pytest

from jobs.outcomes import Succeeded
from onboarding import steps
from tests.conftest import ROOT, child_environment
from tests.onboarding import world
from tests.onboarding.hands import settle, take
from tests.onboarding.killing import as_order

POOLED = ["tenant", "owner", "storage", "workspace", "analytics", "cache", "welcome", "announce"]
DEDICATED = [*POOLED[:2], "schema", *POOLED[2:]]
WAYS = [("free", step) for step in POOLED] + [("pro", step) for step in DEDICATED]


@pytest.fixture(scope="module")
def mail():
    with world.MailServer() as server:
        yield server


@pytest.fixture(scope="module")
def victim(mail):
    """The process that dies: it is told which sign-up to run, and where to be killed."""
    environment = child_environment() | {"EMAIL_URL": f"smtp://{mail.host}:{mail.port}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.onboarding.killing"],
        cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"

    def die(claim, **where) -> int:
        process.stdin.write(as_order(claim, **where) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield die
    process.stdin.close()
    process.wait(timeout=10)


@pytest.fixture(autouse=True)
def mail_settings(settings, mail):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = mail.host, mail.port


def sign_up(platform, plan: str) -> tuple:
    email = f"{uuid4().hex[:12]}@kill.example"
    return world.request_id_of(platform.sign_up(plan=plan, email=email)), email


KILLS = [(plan, step, when) for plan, step in WAYS for when in ("before", "during", "after")]
KILLS += [("free", step, "recorded") for step in POOLED]


def moments(kills: list[tuple[str, str, str]]) -> list[object]:
    """Each step in the midst of its effect is for every day."""
    return [
        kill if kill[2] == "during" else pytest.param(*kill, marks=pytest.mark.thorough)
        for kill in kills
    ]


@pytest.mark.parametrize(("plan", "step", "when"), moments(KILLS), ids=lambda part: part)
def test_it_ends_in_exactly_one_of_each_when_killed(
    platform, operator, victim, mail, plan, step, when
):
    request_id, email = sign_up(platform, plan)
    assert victim(take(operator, request_id), step=step, when=when) == -SIGKILL

    claim = take(operator, request_id)
    assert steps.run(claim) == Succeeded()
    settle(operator, claim, "succeeded")

    found = world.traces(operator, claim.tenant_id)
    assert found.pop("files") == 2  # The prefix and its mark.
    assert found.pop("schema", 0) == (1 if plan == "pro" else 0)
    assert found.pop("onboarding_provisionedresource") == len(POOLED) + (plan == "pro")
    assert found == {
        "tenants_tenant": 1,
        "tenants_domain": 1,
        "tenants_membership": 1,
        "onboarding_workspace": 1,
        "onboarding_activityday": 1,
        "onboarding_welcomemail": 1,
        "webhooks_event": 1,
        "webhooks_payload": 1,
    }
    owners = operator.execute("select count(*) from tenants_user where email = %s", [email])
    assert owners.fetchone() == (1,)
    sent = mail.to(email)
    # Killed when the server had the mail already: once more, and as the same mail.
    assert len(sent) == (2 if step == "welcome" and when in {"during", "after"} else 1)
    assert len({each["Message-ID"] for each in sent}) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(("plan", "step"), WAYS, ids=lambda part: part)
def test_discard_leaves_nothing_behind_after_a_kill_before_the_record(
    platform, operator, victim, plan, step
):
    request_id, email = sign_up(platform, plan)
    assert victim(take(operator, request_id), step=step, when="after") == -SIGKILL

    claim = take(operator, request_id, discarding=True)
    assert steps.undo(claim) == Succeeded()
    assert world.traces(operator, claim.tenant_id) == {}
    assert not operator.execute("select 1 from tenants_user where email = %s", [email]).fetchall()


@pytest.mark.parametrize(("plan", "step"), WAYS, ids=lambda part: part)
def test_discard_leaves_nothing_behind_when_it_is_killed_itself(
    platform, operator, victim, plan, step
):
    request_id, email = sign_up(platform, plan)
    assert steps.run(take(operator, request_id)) == Succeeded()
    discarding = take(operator, request_id, discarding=True)
    assert victim(discarding, step=step, when="undo", undo=True) == -SIGKILL

    claim = take(operator, request_id, discarding=True)
    assert steps.undo(claim) == Succeeded()
    assert world.traces(operator, claim.tenant_id) == {}
    assert not operator.execute("select 1 from tenants_user where email = %s", [email]).fetchall()


def test_it_sends_no_third_mail(platform, operator, victim, mail):
    request_id, email = sign_up(platform, "free")
    for _ in range(3):
        victim(take(operator, request_id), step="welcome", when="during")
    assert steps.run(take(operator, request_id)) == Succeeded()
    assert len(mail.to(email)) == 2


def test_a_process_that_lost_its_lease_records_nothing(platform, operator):
    from jobs.errors import LeaseLost

    request_id, _ = sign_up(platform, "free")
    old = take(operator, request_id)
    new = take(operator, request_id)
    with pytest.raises(LeaseLost):
        steps.run(old)
    assert world.traces(operator, new.tenant_id) == {}
    assert steps.run(new) == Succeeded()
