import pytest

from tests.jobs.conftest import Engine, withdraw_everything


@pytest.fixture
def engine():
    """The engine alone with this test's works."""
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()
