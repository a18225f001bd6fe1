import pytest

from tests.campaigns.desk import Desk


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
