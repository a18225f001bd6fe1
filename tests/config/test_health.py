"""Probes: alive, ready, and what Prometheus reads."""

import json
import time

import pytest
from django.db import connections
from django.test import Client, RequestFactory

from config import health, metrics
from config.problems import NotFoundProblem
from tests.conftest import build_database


def checks(response) -> dict[str, str]:
    return json.loads(response.content)["checks"]


def test_healthz_says_that_the_process_lives(client):
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_probes_answer_on_any_host():
    assert Client(headers={"host": "10.1.2.3"}).get("/healthz").status_code == 200


def test_readyz_asks_what_it_needs(client):
    response = client.get("/readyz")
    assert response.status_code == 200
    found = checks(response)
    assert (found["database"], found["migrations"], found["redis"]) == ("ok", "ok", "ok")


def test_redis_away_is_a_degraded_service_and_no_outage(client, valkey):
    valkey.stop()
    response = client.get("/readyz")
    assert response.status_code == 200
    assert checks(response)["redis"] == "degraded"
    valkey.start()
    assert checks(client.get("/readyz"))["redis"] == "ok"


def test_a_migration_that_is_missing_is_told(client, monkeypatch):
    needed = health._needed() | {("public", "jobs", "0099_not_there")}
    monkeypatch.setattr(health, "_needed", lambda: needed)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert checks(response)["migrations"] == "missing"


def test_the_pool_counts_as_well_as_public():
    schemas = {schema for schema, _, _ in health._needed()}
    assert schemas == {"public", "pool"}
    assert all((schema == "pool") == (app == "customers") for schema, app, _ in health._needed())


def test_a_worker_counts_while_it_beats(client, operator):
    before = "delete from jobs_drainer"
    operator.execute(before)
    assert checks(client.get("/readyz"))["worker"] == "none"
    operator.execute("insert into jobs_drainer (host, pid, busy, slots) values ('h', 1, 0, 0)")
    assert checks(client.get("/readyz"))["worker"] == "ok"
    operator.execute("update jobs_drainer set beat_at = now() - interval '16 seconds'")
    assert checks(client.get("/readyz"))["worker"] == "none"
    operator.execute(before)


@pytest.fixture
def far_database(tmp_path, settings):
    """The app role's alias on a Postgres that a test may stop."""
    from config.embedded import Postgres

    server = Postgres(tmp_path / "postgres", durable=False)
    server.start()
    build_database(server, "slipway_far")
    connection = connections["default"]
    near = dict(connection.settings_dict)
    connection.close_pool() if hasattr(connection, "close_pool") else connection.close()
    connection.settings_dict["NAME"] = "slipway_far"
    connection.settings_dict["OPTIONS"] = near["OPTIONS"] | {"host": str(server.socket_dir)}
    yield server
    connection.close_pool() if hasattr(connection, "close_pool") else connection.close()
    connection.settings_dict.clear()
    connection.settings_dict.update(near)
    server.stop("immediate")


def test_a_database_that_is_away_is_told_and_so_is_its_return(client, far_database):
    assert client.get("/readyz").status_code == 200
    far_database.stop("immediate")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert checks(response)["database"] == "down"
    assert client.get("/healthz").status_code == 200
    far_database.start()
    deadline = time.monotonic() + 10
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        connections["default"].close()  # As the next request does; the test client does not.


def test_metrics_count_requests_by_route(client):
    client.get("/healthz")
    text = client.get("/metrics").content.decode()
    assert 'slipway_requests_total{method="GET",route="/healthz",status="200"}' in text
    assert 'slipway_request_seconds_count{route="/healthz"}' in text


def test_a_path_that_somebody_made_up_makes_no_metric_of_its_own(client):
    client.get("/made-up-by-a-stranger")
    client.generic("BREW", "/healthz")
    text = client.get("/metrics").content.decode()
    assert "made-up" not in text
    assert "BREW" not in text


@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "203.0.113.9"},
        {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"},
        {"REMOTE_ADDR": ""},
    ],
)
def test_metrics_are_not_for_strangers(meta):
    with pytest.raises(NotFoundProblem):
        metrics.metrics(RequestFactory().get("/metrics", **meta))


def test_with_a_token_set_the_token_decides(settings):
    settings.METRICS_TOKEN = "sesame"
    far = {"REMOTE_ADDR": "203.0.113.9"}
    allowed = RequestFactory().get("/metrics", headers={"Authorization": "Bearer sesame"}, **far)
    assert metrics.metrics(allowed).status_code == 200
    for token in ("", "sesam", "sesame "):
        refused = RequestFactory().get("/metrics", headers={"Authorization": f"Bearer {token}"})
        with pytest.raises(NotFoundProblem):
            metrics.metrics(refused)
