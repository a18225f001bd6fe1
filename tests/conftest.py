"""The ground that every test stands on: a real Postgres and a real Valkey of this run's own.

The run's first process starts Postgres and builds one template database with the owner's role; each
worker gets a copy and a Valkey. Tests connect as the roles of production, commit for real, use a
fresh tenant or queue each and never flush.
"""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from config.embedded import Postgres, Valkey
from tests import chromium
from tests import settings as run

ROOT = Path(__file__).parent.parent


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def is_first(config: pytest.Config) -> bool:
    """Whether this is the process that the run's servers belong to."""
    return not is_worker(config) and COMPILING not in os.environ


COMPILING = "SLIPWAY_TEST_COMPILING"  # A process that reads the tests for pytest's cache, no more.
PREPARED = "SLIPWAY_TEST_PREPARED"  # A stopped Postgres's data, with all migrations run.
# All that says what the migrations make.
SCHEMA = (
    "*/migrations/*.py",
    "*/sql/*.sql",
    "tests/*/migrations/*.py",
    "tenants/*.py",
    "jobs/tables.py",
    "jobs/partitions.py",
    "config/embedded/postgres.py",
    "requirements-dev.lock",
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each core: half of a test's time is waiting for servers and processes.

    One for each where the tests start whole systems of processes, which take the cores themselves.
    """
    each = 1 if os.environ.get("SLIPWAY_TESTS") == "thorough" else 2
    return min(8, each * (os.cpu_count() or 1))


# Whole files that `make thorough` runs, and `make test` does not: kills, outages, whole rebuilds.
THOROUGH = {
    "campaigns/test_pausing.py",
    "chaos/test_audience.py",
    "chaos/test_campaigns.py",
    "chaos/test_deliveries.py",
    "chaos/test_drain.py",
    "chaos/test_moving.py",
    "chaos/test_postgres.py",
    "chaos/test_redis.py",
    "chaos/test_restore.py",
    "chaos/test_shipwreck.py",
    "config/test_doctor.py",
    "config/test_embedded.py",
    "config/test_every_route.py",
    "config/test_extensions.py",
    "config/test_health.py",
    "config/test_rotating.py",
    "config/test_settings.py",
    "config/test_up.py",
    "console/test_actions.py",
    "console/test_bulk.py",
    "console/test_pages.py",
    "console/test_paging.py",
    "console/test_rollup.py",
    "console/test_signing_in.py",
    "flows/test_campaigns.py",
    "flows/test_sign_up.py",
    "flows/test_webhooks.py",
    "jobs/test_machine.py",
    "jobs/test_restored.py",
    "jobs/test_shares.py",
    "lifecycle/test_exporting.py",
    "lifecycle/test_moving.py",
    "lifecycle/test_moving_fences.py",
    "lifecycle/test_plans.py",
    "lifecycle/test_purging.py",
    "lifecycle/test_suspending.py",
    "onboarding/test_http_steps.py",
    "onboarding/test_kills.py",
    "onboarding/test_undo.py",
    "tenants/test_blueprint.py",
    "tenants/test_checks.py",
    "tenants/test_isolation_proof.py",
    "test_odd_input.py",
    "webhooks/test_fairness.py",
    "webhooks/test_held.py",
    "webhooks/test_lists.py",
    "webhooks/test_replays.py",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """SLIPWAY_TESTS says which run: `quick` ones, `thorough` ones, or all."""
    for item in items:
        if str(item.path.relative_to(ROOT / "tests")) in THOROUGH:
            item.add_marker("thorough")
    if (which := os.environ.get("SLIPWAY_TESTS", "all")) != "all":
        wanted = which == "thorough"
        left = [item for item in items if bool(item.get_closest_marker("thorough")) != wanted]
        items[:] = [item for item in items if bool(item.get_closest_marker("thorough")) == wanted]
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before its fixtures: a test that needs a browser has one, or is skipped, or fails."""
    if chromium.CHROMIUM is None and item.get_closest_marker("browser"):
        if chromium.is_required():
            pytest.fail(chromium.MISSING, pytrace=False)
        pytest.skip(chromium.MISSING)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line, below pytest's own, where it is read: what was skipped for want of a browser.

    In the first process, whose reporter knows what the workers skipped.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or is_worker(config):
        return
    skipped = reporter.getreports("skipped")
    if many := sum(chromium.MISSING in str(report.longrepr) for report in skipped):
        tests = "1 browser test was" if many == 1 else f"{many} browser tests were"
        reporter.write_line(f"{tests} skipped, since there is no Chromium: {chromium.HOW}.")


def pytest_sessionstart(session: pytest.Session) -> None:
    if is_first(session.config):
        os.environ.setdefault(PREPARED, str(prepared()))
        if not Path(os.environ[PREPARED]).exists():
            with compiled(session.config):
                prepare(Path(os.environ[PREPARED]))
        run.postgres.directory.mkdir(parents=True, exist_ok=True)
        copy_data(run.postgres)
        run.postgres.start()
        if sabotage := os.environ.get("SLIPWAY_TEST_SABOTAGE"):  # What a proof leaves out.
            with psycopg.connect(run.postgres.superuser_conninfo(run.TEMPLATE_NAME)) as connection:
                connection.execute(sabotage)


def prepared() -> Path:
    """Where the data lie that today's migrations make, of these files: the next run has them."""
    said = sha256(str((datetime.now(UTC).date(), sys.version_info, os.geteuid())).encode())
    for file in sorted(path for pattern in SCHEMA for path in ROOT.glob(pattern)):
        said.update(file.read_bytes())
    return ROOT / ".pytest_cache" / "prepared" / said.hexdigest()[:16]


def prepare(place: Path) -> None:
    """Migrate once, and keep the data, and those of the last hour; older ones go."""
    draft = Postgres(run.RUN_DIR / "draft", durable=False)
    draft.start()
    build_database(draft, run.TEMPLATE_NAME)
    draft.stop()
    place.parent.mkdir(parents=True, exist_ok=True)
    for older in place.parent.iterdir():
        with suppress(FileNotFoundError):  # Another run may do the same.
            if older.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(older, ignore_errors=True)
    half = place.with_suffix(f".{os.getpid()}")
    subprocess.run(["cp", "-a", draft.data, half], check=True)
    os.utime(half)
    shutil.rmtree(draft.directory)
    try:
        half.rename(place)
    except OSError:  # Another run was quicker.
        shutil.rmtree(half)


@contextmanager
def compiled(config: pytest.Config) -> Iterator[None]:
    """Meanwhile read all tests once, so that not every worker need rewrite their assertions.

    That takes twenty seconds of CPU, and each worker would do it for itself in a fresh clone.
    """
    if not config.getoption("numprocesses", None) or sys.dont_write_bytecode:
        yield
        return
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-n0", "--collect-only", "-qq", *config.args],
        cwd=ROOT,
        env=os.environ | {COMPILING: "yes"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        child.wait()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if is_first(session.config):
        run.postgres.stop()
        shutil.rmtree(run.RUN_DIR, ignore_errors=True)


def database_environment(postgres: Postgres, name: str) -> dict[str, str]:
    """The variables that point a process at one database."""
    return {
        "DATABASE_URL": postgres.conninfo(name, "slipway_app"),
        "OPERATOR_DATABASE_URL": postgres.conninfo(name, "slipway_operator"),
        "OWNER_DATABASE_URL": postgres.conninfo(name, "slipway_owner"),
    }


def build_database(postgres: Postgres, name: str) -> None:
    """Roles, a database and all migrations: what `manage.py roles` and `migrate` do."""
    from tenants import roles

    roles.create_roles(postgres.superuser_conninfo())
    roles.create_database(postgres.superuser_conninfo(), name)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"],
        cwd=ROOT,
        env=child_environment() | database_environment(postgres, name),
        check=True,
    )


def copy_data(server: Postgres) -> None:
    """Give a server that never ran the data of the one that was prepared: migrating takes longer.

    It belongs to the user that the server runs as, who need not be us.
    """
    subprocess.run(["cp", "-a", os.environ[PREPARED], server.data], check=True)


def child_environment() -> dict[str, str]:
    """The environment of a process that a test starts: the same servers, the same settings."""
    return os.environ | {"SLIPWAY_TEST_CHILD": "1", "DJANGO_SETTINGS_MODULE": "tests.settings"}


@pytest.fixture(scope="session", autouse=True)
def database(django_db_blocker) -> Iterator[None]:
    """This worker's copy of the template, and its Valkey."""
    from tenants import roles

    roles.create_database(
        run.postgres.superuser_conninfo(), run.DATABASE_NAME, template=run.TEMPLATE_NAME
    )
    valkey_server.start()
    with django_db_blocker.unblock():
        yield
    valkey_server.stop()


valkey_server = Valkey(run.WORKER_DIR / "valkey")


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    """Each test starts for no tenant, and gives its connections back."""
    from django.db import connections

    yield
    connections.close_all()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """This worker's Valkey, for tests that stop or flush it; it runs again afterwards."""
    yield valkey_server
    valkey_server.start()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[tuple[Postgres, dict[str, str]]]:
    """A Postgres of this test's own, to restart or kill, and the environment that names it.

    What it has committed it keeps when it is killed; else drainers rightly say that it went back.
    """
    from tenants import roles

    server = Postgres(tmp_path / "postgres", durable=False, settings={"synchronous_commit": "on"})
    server.directory.mkdir()
    copy_data(server)
    server.start()
    roles.create_database(server.superuser_conninfo(), "slipway_own", template=run.TEMPLATE_NAME)
    yield server, child_environment() | database_environment(server, "slipway_own")
    server.stop("immediate")


def connect(role: str) -> psycopg.Connection:
    return psycopg.connect(run.postgres.conninfo(run.DATABASE_NAME, role), autocommit=True)


@pytest.fixture
def superuser() -> Iterator[psycopg.Connection]:
    with connect("postgres") as connection:
        yield connection


@pytest.fixture
def operator() -> Iterator[psycopg.Connection]:
    """A raw connection past row-level security: how a test sees what really is there."""
    with connect("slipway_operator") as connection:
        yield connection


@pytest.fixture
def app_connection() -> Iterator[psycopg.Connection]:
    """A raw connection as the app role, with no tenant entered."""
    with connect("slipway_app") as connection:
        yield connection


@pytest.fixture
def make_tenant() -> Callable:
    """Makes a tenant of either home, ready to use."""
    return create_tenant


def create_tenant(home: str = "pooled", *, status: str = "active", slug: str | None = None):
    """A tenant with its address (and schema), past onboarding."""
    from django.conf import settings
    from django.db import connections

    from tenants import schemas
    from tenants.models import Domain, Tenant
    from tenants.routers import as_operator

    slug = slug or f"t-{uuid.uuid4().hex[:12]}"
    with as_operator():
        with connections["operator"].cursor() as cursor:
            cursor.execute("select nextval('tenants_tenant_id_seq')")
            (number,) = cursor.fetchone()
        tenant = Tenant(
            id=number,
            uuid=uuid.uuid4(),
            slug=slug,
            name=slug.title(),
            plan="pro" if home == "dedicated" else "free",
            home=home,
            status=status,
            schema_name=schemas.schema_name(number),
        )
        tenant.save(force_insert=True)
        Domain(domain=f"{slug}.{settings.TENANT_DOMAIN}", tenant_id=number, is_primary=True).save(
            force_insert=True
        )
    if home == "dedicated":
        schemas.ensure_schema(tenant.schema_name)
    return tenant


@pytest.fixture
def tenant(make_tenant):
    """A pooled tenant, in use."""
    return make_tenant()


@pytest.fixture
def other_tenant(make_tenant):
    """Another pooled tenant: whose rows nobody else may see."""
    return make_tenant()


@pytest.fixture
def dedicated_tenant(make_tenant):
    """A tenant with a schema of its own."""
    return make_tenant("dedicated")
