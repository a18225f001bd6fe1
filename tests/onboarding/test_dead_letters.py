"""A sign-up that cannot go on, with a drainer at work: what the public sees, replay, discard."""

import subprocess
import sys
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from jobs import services
from jobs.models import DeadLetter
from onboarding import files, reaping
from tests.conftest import ROOT, child_environment
from tests.onboarding import world
from tests.onboarding.test_hangs import wait_until

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


def stuck(caller, operator, superuser, **body):
    """A sign-up that fails for good at its step `storage`: its prefix carries another's mark."""
    (number,) = superuser.execute(
        "select last_value + is_called::int from tenants_tenant_id_seq"
    ).fetchone()
    files.write_mark(files.prefix_of(number), "slipway tenant of somebody else")
    accepted = caller.sign_up(slug=f"a-{uuid4().hex[:8]}", **body)
    wait_until(lambda: state_of(operator, accepted) == "dead_letter")
    assert world.tenant_id_of(operator, world.request_id_of(accepted)) == number
    return accepted, files.prefix_of(number)


@pytest.mark.thorough
def test_its_way_through_the_dead_letters(platform, stranger, operator, superuser, drainer):
    first, in_the_way = stuck(platform, operator, superuser)
    second, also_in_the_way = stuck(platform, operator, superuser, plan="pro")

    # In public it is only late.
    seen = stranger.status(first).json()
    assert (seen["status"], seen["delayed"]) == ("provisioning", True)
    assert [step["state"] for step in seen["steps"][:4]] == ["done", "done", "running", "waiting"]
    assert platform.status(first).json()["last_error"].startswith("storage: ")

    # Replay resumes at the step that failed.
    made_at = ledger(operator, first)["tenant"]
    files.remove(in_the_way)
    services.replay(dead_letter=letter_of(first), actor="system:test", reason=REASON)
    wait_until(lambda: state_of(operator, first) == "succeeded")
    assert ledger(operator, first)["tenant"] == made_at
    assert stranger.status(first).json()["status"] == "ready"

    # Discard undoes what was made, and only then frees the address.
    files.remove(also_in_the_way)
    slug = second.json()["tenant"]["slug"]
    services.discard(dead_letter=letter_of(second), actor="system:test", reason=REASON)
    wait_until(lambda: state_of(operator, second) == "discarded")
    tenant_id = world.tenant_id_of(operator, world.request_id_of(second))
    assert world.traces(operator, tenant_id) == {}
    assert stranger.status(second).json()["status"] == "cancelled"
    assert platform.sign_up(slug=slug).status_code == 202

    # A stranger's is discarded after a week, since nobody may ever look.
    third, in_the_way = stuck(stranger, operator, superuser)
    files.remove(in_the_way)
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
