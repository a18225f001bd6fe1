"""A sign-up that cannot go on, with a drainer at work: what the public sees, replay, discard."""

import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from jobs import services
from jobs.models import DeadLetter
from onboarding import reaping
from tests.conftest import ROOT, child_environment
from tests.onboarding import world
from tests.onboarding.test_hangs import wait_until
from tests.people import make_user

REASON = "for this test"


@pytest.fixture
def drainer(operator):
    world.give_up_what_others_left(operator)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "drain", "--grace", "1"], cwd=ROOT, env=child_environment()
    )
    yield
    process.terminate()
    process.wait(timeout=30)


def state_of(operator, accepted) -> str:
    return operator.execute(
        "select state from onboarding_pendingonboarding where id = %s",
        [world.request_id_of(accepted)],
    ).fetchone()[0]


def letter_of(accepted) -> DeadLetter:
    letters = DeadLetter.objects.using("operator")
    return letters.get(work_id=world.request_id_of(accepted), resolved_at=None)


def stuck(caller, operator, **body):
    """A sign-up that fails for good at its second step: the address is an operator's."""
    staff = make_user(staff=True)
    accepted = caller.sign_up(email=staff.email, slug=f"a-{uuid4().hex[:8]}", **body)
    wait_until(lambda: state_of(operator, accepted) == "dead_letter")
    return accepted, staff


def test_its_way_through_the_dead_letters(platform, stranger, operator, drainer):
    first, staff = stuck(platform, operator)
    second, _ = stuck(platform, operator, plan="pro")

    # In public it is only late.
    seen = stranger.status(first).json()
    assert (seen["status"], seen["delayed"]) == ("provisioning", True)
    assert [step["state"] for step in seen["steps"][:3]] == ["done", "running", "waiting"]
    assert platform.status(first).json()["last_error"].startswith("owner: ")

    # Replay resumes at the step that failed.
    made_at = ledger(operator, first)["tenant"]
    operator.execute(
        "update tenants_user set is_staff = false, is_superuser = false where id = %s", [staff.pk]
    )
    services.replay(dead_letter=letter_of(first), actor="system:test", reason=REASON)
    wait_until(lambda: state_of(operator, first) == "succeeded")
    assert ledger(operator, first)["tenant"] == made_at
    assert stranger.status(first).json()["status"] == "ready"

    # Discard undoes what was made, and only then frees the address.
    slug = second.json()["tenant"]["slug"]
    services.discard(dead_letter=letter_of(second), actor="system:test", reason=REASON)
    wait_until(lambda: state_of(operator, second) == "discarded")
    tenant_id = world.tenant_id_of(operator, world.request_id_of(second))
    assert world.traces(operator, tenant_id) == {}
    assert stranger.status(second).json()["status"] == "cancelled"
    assert platform.sign_up(slug=slug).status_code == 202

    # A stranger's is discarded after a week, since nobody may ever look.
    third, _ = stuck(stranger, operator)
    request_id = world.request_id_of(third)
    assert request_id not in reaping.reap(actor="system:test")
    operator.execute(
        "update onboarding_pendingonboarding set created_at = %s where id = %s",
        [timezone.now() - timedelta(days=8), request_id],
    )
    assert request_id in reaping.reap(actor="system:test")
    wait_until(lambda: state_of(operator, third) == "discarded")


def ledger(operator, accepted) -> dict:
    tenant_id = world.tenant_id_of(operator, world.request_id_of(accepted))
    return dict(
        operator.execute(
            "select step, created_at from onboarding_provisionedresource where tenant_id = %s",
            [tenant_id],
        ).fetchall()
    )
