import socket

import pytest
from django.db.models import Q
from django.utils import timezone

from campaigns.models import Message
from jobs.states import FINISHED
from tests.campaigns import posting
from tests.campaigns.desk import Desk
from tests.campaigns.provider import Sandbox
from tests.campaigns.replies import replying
from tests.campaigns.workshop import Clock, Workshop
from tests.jobs.conftest import Engine, withdraw_everything


@pytest.fixture(params=["pooled", "dedicated"])
def home(request, make_tenant):
    """A tenant of each home: every test that uses it runs against both."""
    return make_tenant(request.param)


@pytest.fixture
def desk(client, tenant):
    """The API of a pooled tenant."""
    return Desk(client, tenant)


@pytest.fixture
def desks(client, home):
    """The API of a tenant of each home."""
    return Desk(client, home)


@pytest.fixture
def other_desk(client, other_tenant):
    """The API of somebody else."""
    return Desk(client, other_tenant)


@pytest.fixture
def engine():
    """The engine alone with this test's jobs and messages."""
    withdraw_everything()
    rows = Message.objects.using("operator").filter(~Q(state__in=FINISHED))
    rows.update(state="cancelled", lease=None, drainer=None)
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


@pytest.fixture
def workshop(tenant, engine):
    """The campaigns of a pooled tenant."""
    return Workshop(tenant, engine)


@pytest.fixture
def workshops(home, engine):
    """The campaigns of a tenant of each home."""
    return Workshop(home, engine)


@pytest.fixture
def clock(monkeypatch):
    """The time, for a test to change."""
    patched = Clock(timezone.now)
    monkeypatch.setattr(timezone, "now", patched)
    return patched


@pytest.fixture(scope="session")
def sandbox():
    """A provider of messages that misbehaves on request."""
    started = Sandbox()
    yield started
    started.stop()


@pytest.fixture
def post(sandbox, tenant, monkeypatch, settings):
    """A tenant's accounts at the sandbox, where nothing else is to be sent."""
    return posting.ready(sandbox, tenant, monkeypatch, settings)


@pytest.fixture
def posts(sandbox, home, monkeypatch, settings):
    """Those of a tenant of each home."""
    return posting.ready(sandbox, home, monkeypatch, settings)


@pytest.fixture
def free_port():
    """A port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def replies():
    """A provider's server that answers as it is told."""
    with replying() as server:
        yield server
