import pytest

from tests.customers.desk import Desk
from tests.customers.shop import Shop
from tests.jobs.conftest import Engine, withdraw_everything


@pytest.fixture
def engine():
    """The engine alone with this test's jobs."""
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


@pytest.fixture(params=["pooled", "dedicated"])
def home(request, make_tenant):
    """A tenant of each home: every test that uses it runs against both."""
    return make_tenant(request.param)


@pytest.fixture
def desk(client, tenant, engine):
    """The API of a pooled tenant."""
    return Desk(client, tenant, engine)


@pytest.fixture
def desks(client, home, engine):
    """The API of a tenant of each home."""
    return Desk(client, home, engine)


@pytest.fixture
def shop(settings):
    """A source of customers that answers as a test says, open to our machines."""
    started = Shop()
    settings.WEBHOOK_OPEN_DESTINATIONS = [started.pair]
    yield started
    started.stop()
