"""A tenant's archive: all that it has, at one moment, without secrets; whole, or not there."""

import hashlib
import io
import json
import threading
import time
import zipfile
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from jobs.outcomes import Fail, Snooze, Succeeded
from jobs.registry import kind
from lifecycle import archive, exporting, tables
from lifecycle.errors import TooManyExports
from lifecycle.management import looking
from lifecycle.models import Export
from tenants import files
from tenants.models import AuditEntry, Tenant
from tests.lifecycle import residents
from tests.lifecycle.killing import Killer
from tests.notes.models import Notebook
from tests.people import bearer, platform_key, tenant_key

OPERATOR = "operator"
LEFT_OUT = {"public.tenants_session"}


@pytest.fixture(params=["free", pytest.param("pro", marks=pytest.mark.thorough)])
def resident(request, operator, engine):
    """A tenant of each home, furnished."""
    made = residents.settle_in(operator, request.param)
    residents.furnish(made)
    return made


class Api:
    """What a platform's back end asks of one tenant's archives."""

    def __init__(self, client, tenant, *scopes):
        self.client, self.tenant = client, tenant
        self.headers = bearer(platform_key(*scopes))

    def begin(self):
        return self.client.post(
            f"/v1/tenants/{self.tenant.slug}/export", {"reason": "Moves away."},
            content_type="application/json", headers=self.headers,
        )  # fmt: skip

    def get(self, path=""):
        return self.client.get(
            f"/v1/tenants/{self.tenant.slug}/exports{path}", headers=self.headers
        )


def lines(archived: zipfile.ZipFile, table: str) -> list[dict]:
    return [json.loads(line) for line in archived.read(f"{table}.jsonl").splitlines()]


def exported(client, tenant, engine) -> tuple[dict, zipfile.ZipFile]:
    api = Api(client, tenant)
    begun = api.begin()
    assert begun.status_code == 202, begun.json()
    assert residents.done(residents.work(engine, exporting.KIND))
    shown = api.get(f"/{begun.json()['id']}").json()
    assert shown["status"] == "finished"
    file = client.get(shown["file_url"], headers=api.headers)
    body = b"".join(file.streaming_content)
    assert (len(body), hashlib.sha256(body).hexdigest()) == (shown["bytes"], shown["sha256"])
    return shown, zipfile.ZipFile(io.BytesIO(body))


def test_its_counts_equal_the_world(client, resident, engine):
    shown, archived = exported(client, resident.tenant, engine)
    manifest = json.loads(archived.read("manifest.json"))
    world = {
        f"{label.partition('.')[2]}.jsonl": count
        for label, count in looking.rows_of(resident.tenant).items()
        if label not in LEFT_OUT
    }
    world |= {"tenants_tenant.jsonl": 1, "tenants_user.jsonl": 1}
    # What asking for the archive wrote itself: after its moment, or with it.
    for later in ("tenants_auditentry.jsonl", "lifecycle_export.jsonl"):
        manifest["files"].pop(later), world.pop(later)
    told = {name: each["rows"] for name, each in manifest["files"].items() if each["rows"]}
    assert told == world
    assert world["customers_customer.jsonl"] == 3
    for name, each in manifest["files"].items():
        said = archived.read(name)
        assert each["sha256"] == hashlib.sha256(said).hexdigest()
        assert (each["bytes"], each["rows"]) == (len(said), said.count(b"\n"))
    assert shown["rows"] >= sum(world.values())


def test_it_is_what_its_owner_knows_and_holds_no_secret(client, resident, engine):
    rows = Tenant.objects.using(OPERATOR).filter(pk=resident.tenant.pk)
    rows.update(currency="CHF")
    _, archived = exported(client, resident.tenant, engine)
    assert {row["name"] for row in lines(archived, "customers_customer")} == {"C0", "C1", "C2"}
    [owner] = lines(archived, "tenants_user")
    assert owner["email"] == resident.email
    assert "password" not in owner
    [tenant] = lines(archived, "tenants_tenant")
    assert (tenant["slug"], tenant["currency"]) == (resident.tenant.slug, "CHF")
    [endpoint] = lines(archived, "webhooks_endpoint")
    assert endpoint["url"] == "https://hooks.example/in"
    for name in archived.namelist():
        said = archived.read(name).decode()
        assert residents.SECRET not in said
        assert "whsec_" not in said
    kept = {column for name in archived.namelist() if name.endswith(".jsonl")
            for row in lines(archived, name[:-6])[:1] for column in row}  # fmt: skip
    assert not kept & {"secret_hash", "secrets", "custom_headers", "credentials", "session_data"}


def test_every_column_that_could_be_secret_is_left_out_or_known():
    """A new column with such a name is looked at by whoever adds it."""
    words = ("secret", "password", "token", "hash", "credential", "digest", "headers")
    known = {"jobs_lane.tokens", "lifecycle_export.digest"}
    found = set()
    wrapper = connections[OPERATOR]
    for table in tables.found(wrapper, schemas=["pool"]):
        if table.name in archive._left_out():
            continue
        found |= {f"{table.name}.{column}" for column in archive._columns(wrapper, table)
                  if any(word in column for word in words)}  # fmt: skip
    assert found <= known


def test_an_extensions_table_is_in_it(client, tenant, engine):
    Notebook.objects.using(OPERATOR).create(tenant_id=tenant.pk, title="Mine")
    _, archived = exported(client, tenant, engine)
    assert [row["title"] for row in lines(archived, "notes_notebook")] == ["Mine"]


def test_a_neighbours_rows_are_not_in_it(client, tenant, other_tenant, engine):
    Notebook.objects.using(OPERATOR).create(tenant_id=other_tenant.pk, title="Theirs")
    _, archived = exported(client, tenant, engine)
    assert lines(archived, "notes_notebook") == []
    for name in archived.namelist():
        assert other_tenant.slug.encode() not in archived.read(name)


def test_it_shows_one_moment(tenant):
    """What is written while it is read is in none of its tables."""
    notebooks = Notebook.objects.using(OPERATOR)
    notebooks.create(tenant_id=tenant.pk, title="Before")

    def write(table, rows):
        def late():
            notebooks.get_or_create(tenant_id=tenant.pk, title="After")
            connections.close_all()

        thread = threading.Thread(target=late)
        thread.start()
        thread.join()

    file = io.BytesIO()
    archive.write(file, tenant_id=tenant.pk, heard=write)
    assert [row["title"] for row in lines(zipfile.ZipFile(file), "notes_notebook")] == ["Before"]
    assert notebooks.filter(tenant_id=tenant.pk).count() == 2


@pytest.mark.thorough
def test_its_memory_is_bounded(tenant, monkeypatch):
    """However many rows there are, a batch of them is held."""
    monkeypatch.setattr(archive, "BATCH", 10)
    Notebook.objects.using(OPERATOR).bulk_create(
        Notebook(tenant_id=tenant.pk, title=f"N{n:03}") for n in range(95)
    )
    told = []
    written = archive.write(
        io.BytesIO(), tenant_id=tenant.pk, heard=lambda table, rows: told.append(table)
    )
    assert written.files["notes_notebook.jsonl"]["rows"] == 95
    assert told.count("notes_notebook") == 10


@pytest.mark.parametrize(
    "status", ["suspended", pytest.param("closing", marks=pytest.mark.thorough)]
)
def test_a_tenant_that_is_shut_is_exported(client, tenant, engine, status):
    Tenant.objects.using(OPERATOR).filter(pk=tenant.pk).update(
        status=status, closes_at=timezone.now() + timedelta(days=9)
    )
    exported(client, tenant, engine)


def test_a_purged_tenant_has_nothing_to_export(client, make_tenant):
    answer = Api(client, make_tenant(status="closed")).begin()
    assert (answer.status_code, answer.json()["code"]) == (410, "tenant_purged")


def test_no_half_file_is_ever_served(client, tenant, engine):
    """Whoever loses the work while it stores the file leaves nothing behind."""
    api = Api(client, tenant)
    shown = api.begin().json()
    early = api.get(f"/{shown['id']}/file")
    assert (early.status_code, early.json()["code"]) == (409, "export_not_ready")
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    place = f"{files.prefix_of(tenant.pk)}/archives"
    files.storage().save(f"{place}/{claim.id}-half.zip", io.BytesIO(b"PK half"))
    assert api.get(f"/{shown['id']}/file").status_code == 409
    assert kind(exporting.KIND).step(claim) == Succeeded()
    found = Export.objects.using(OPERATOR).get(pk=claim.id)
    assert files.storage().listdir(place)[1] == [found.file.rpartition("/")[2]]
    assert kind(exporting.KIND).step(claim) == Succeeded()  # Again: nothing is written over.
    assert files.storage().listdir(place)[1] == [found.file.rpartition("/")[2]]


@pytest.mark.thorough
def test_killed_anywhere_it_is_begun_anew(client, tenant, engine):
    """By SIGKILL after its first statements, after some more, and while the file is stored."""
    api, drainer = Api(client, tenant), engine.drainer()
    shown, killed = api.begin().json(), 0
    place = f"{files.prefix_of(tenant.pk)}/archives"
    with Killer() as killer:
        for after in range(100):
            [claim] = engine.claim("jobs", drainer=drainer)
            if not killer.dies(claim, after=after):
                break
            killed += 1
            assert api.get(f"/{shown['id']}/file").status_code == 409
            engine.hand_back(claim)
    assert killed > 3
    told = api.get(f"/{shown['id']}").json()
    body = b"".join(api.get(f"/{shown['id']}/file").streaming_content)
    assert hashlib.sha256(body).hexdigest() == told["sha256"]
    assert zipfile.ZipFile(io.BytesIO(body)).testzip() is None
    assert len(files.storage().listdir(place)[1]) == 1


def test_one_that_would_take_too_long_says_what_to_do(client, tenant, engine):
    Api(client, tenant).begin()
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    outcome = kind(exporting.KIND).step(replace(claim, deadline=0.0))
    assert isinstance(outcome, Fail)
    assert "--file" in outcome.error


def stretch(claim, seconds=exporting.SPARE * 0.7):
    """A job's run with no more time than for a batch."""
    return kind(exporting.KIND).step(replace(claim, deadline=time.monotonic() + seconds))


def furnish(tenant, notebooks: int, attempts: int) -> None:
    """Rows of a table, and of one that is partitioned."""
    Notebook.objects.using(OPERATOR).bulk_create(
        Notebook(tenant_id=tenant.pk, title=f"N{n:03}") for n in range(notebooks)
    )
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(
            "insert into jobs_attempt (id, tenant_id, queue, work_id, number, started_at, outcome,"
            " error, drainer) select gen_random_uuid(), %s, 'jobs', gen_random_uuid(), n, now(),"
            " 'succeeded', '', 1 from generate_series(1, %s) n",
            [tenant.pk, attempts],
        )


@pytest.mark.thorough
def test_what_takes_longer_than_a_job_goes_on_behind_its_last_row(
    client, tenant, engine, monkeypatch
):
    monkeypatch.setattr(archive, "BATCH", 10)
    furnish(tenant, 35, 25)
    api = Api(client, tenant)
    shown = api.begin().json()
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    place, stretches = f"{files.prefix_of(tenant.pk)}/archives", 1
    while (outcome := stretch(claim)) != Succeeded():
        assert isinstance(outcome, Snooze), outcome
        assert len(files.storage().listdir(place)[1]) == 1  # As much as there is, once.
        told = api.get(f"/{shown['id']}")
        assert (told.json()["status"], told.json()["file_url"]) == ("running", None)
        assert api.get(f"/{shown['id']}/file").status_code == 409
        if stretches == 2:  # And killed in between: it goes on from what was stored.
            files.storage().save(f"{place}/{claim.id}-half.zip", io.BytesIO(b"PK half"))
        stretches += 1
    assert stretches > 7
    body = b"".join(api.get(f"/{shown['id']}/file").streaming_content)
    archived = zipfile.ZipFile(io.BytesIO(body))
    assert (archived.testzip(), archived.comment) == (None, b"")
    assert hashlib.sha256(body).hexdigest() == api.get(f"/{shown['id']}").json()["sha256"]
    manifest = json.loads(archived.read("manifest.json"))
    assert set(archived.namelist()) == {*manifest["files"], "manifest.json"}
    for table, count, name in (("notes_notebook", 35, "title"), ("jobs_attempt", 25, "number")):
        parts = [part for part in manifest["files"] if part.split(".")[0] == table]
        rows = [row for part in parts for row in lines(archived, part.removesuffix(".jsonl"))]
        assert len(rows) == len({row[name] for row in rows}) == count
        assert len(parts) == -(-count // 10)
        assert len({manifest["files"][part]["taken_at"] for part in parts}) == len(parts)
    assert len(files.storage().listdir(place)[1]) == 1


@pytest.mark.thorough
def test_nobody_who_is_erased_meanwhile_is_left_in_what_was_stored(
    client, tenant, engine, monkeypatch
):
    monkeypatch.setattr(archive, "BATCH", 10)
    furnish(tenant, 25, 0)
    api = Api(client, tenant)
    api.begin()
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    for _ in range(4):
        assert isinstance(stretch(claim), Snooze)
    place = f"{files.prefix_of(tenant.pk)}/archives"
    with transaction.atomic(using=OPERATOR):
        exporting.erase_from([tenant.pk])
    assert files.storage().listdir(place)[1] == []
    assert stretch(claim, 3600) == Succeeded()
    found = Export.objects.using(OPERATOR).get(pk=claim.id)
    with files.storage().open(found.file) as file:
        assert "notes_notebook.2.jsonl" not in zipfile.ZipFile(file).namelist()


def test_what_was_never_finished_is_given_up_in_the_end(client, tenant, engine):
    api = Api(client, tenant)
    shown = api.begin().json()
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    assert isinstance(stretch(claim), Snooze)
    place = f"{files.prefix_of(tenant.pk)}/archives"
    assert len(files.storage().listdir(place)[1]) == 1
    assert not exporting.old().filter(tenant_id=tenant.pk).exists()
    Export.objects.using(OPERATOR).update(created_at=timezone.now() - timedelta(days=8))
    exporting.forget_old()
    assert files.storage().listdir(place)[1] == []
    assert api.get(f"/{shown['id']}").status_code == 404


def test_who_asks_and_who_takes_it_is_recorded(client, tenant, engine):
    exported(client, tenant, engine)
    trail = AuditEntry.objects.using(OPERATOR).filter(tenant_id=tenant.pk).order_by("id")
    assert list(trail.values_list("action", "reason")) == [
        ("tenant.export_begun", "Moves away."),
        ("tenant.export_taken", ""),
    ]


def test_reading_keys_take_no_archive_away(client, tenant, engine):
    shown, _ = exported(client, tenant, engine)
    reader = Api(client, tenant, "tenants:read")
    assert reader.get(f"/{shown['id']}").status_code == 200
    assert reader.get(f"/{shown['id']}/file").status_code == 403
    assert reader.begin().status_code == 403
    own = client.get(shown["file_url"], headers=bearer(tenant_key(tenant)))
    assert own.status_code == 403


def test_another_tenants_archive_is_not_there(client, tenant, other_tenant, engine):
    shown, _ = exported(client, tenant, engine)
    other = Api(client, other_tenant)
    assert other.get().json()["data"] == []
    assert other.get(f"/{shown['id']}").status_code == 404
    assert other.get(f"/{shown['id']}/file").status_code == 404


def test_only_so_many_wait_at_once(client, tenant):
    api = Api(client, tenant)
    assert [api.begin().status_code for _ in range(3)] == [202, 202, 409]
    assert len(api.get("?limit=1").json()["data"]) == 1


def test_two_who_ask_at_once_are_counted_one_after_the_other(tenant, operator):
    """The second one sees what the first one began."""
    began = []

    def begin():
        try:
            began.append(exporting.begin(tenant_id=tenant.pk, actor="system:test"))
        except TooManyExports as refused:
            began.append(refused)
        finally:
            connections.close_all()

    waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    with transaction.atomic(using=OPERATOR):
        for _ in range(2):
            exporting.begin(tenant_id=tenant.pk, actor="system:test")
        thread = threading.Thread(target=begin)
        thread.start()
        while not began and not operator.execute(waiting).fetchone()[0]:
            thread.join(0.01)
        assert began == []
    thread.join()
    assert isinstance(began[0], TooManyExports)


def test_what_was_committed_though_its_answer_was_lost_keeps_its_file(
    client, tenant, engine, monkeypatch
):
    shown = Api(client, tenant).begin().json()
    [claim] = engine.claim("jobs", drainer=engine.drainer())
    finish = exporting._finish

    def lost(*args, **how):
        finish(*args, **how)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(exporting, "_finish", lost)
    with pytest.raises(OperationalError):
        kind(exporting.KIND).step(claim)
    assert kind(exporting.KIND).step(claim) == Succeeded()
    api = Api(client, tenant)
    body = b"".join(api.get(f"/{shown['id']}/file").streaming_content)
    assert zipfile.ZipFile(io.BytesIO(body)).testzip() is None


def test_what_was_not_committed_leaves_no_file(client, tenant, engine, monkeypatch):
    Api(client, tenant).begin()
    [claim] = engine.claim("jobs", drainer=engine.drainer())

    def refuse(*args, **how):
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(exporting, "_finish", refuse)
    with pytest.raises(OperationalError):
        kind(exporting.KIND).step(claim)
    assert files.storage().listdir(f"{files.prefix_of(tenant.pk)}/archives")[1] == []


def another_file(tenant) -> str:
    return files.storage().save(f"{files.prefix_of(tenant.pk)}/x.txt", io.BytesIO(b"theirs"))


@pytest.mark.parametrize("by", ["name", pytest.param("detour", marks=pytest.mark.thorough)])
def test_a_file_of_another_tenants_is_neither_served_nor_deleted(
    client, tenant, other_tenant, engine, by
):
    """Even if a row names it: whoever could write one."""
    shown, _ = exported(client, tenant, engine)
    rows = Export.objects.using(OPERATOR).filter(tenant_id=tenant.pk)
    found, theirs = rows.get(), another_file(other_tenant)
    detour = f"{found.file.rpartition('/')[0]}/{found.pk}-/../../../{theirs}"
    rows.update(
        file=theirs if by == "name" else detour, finished_at=timezone.now() - timedelta(days=9)
    )
    assert Api(client, tenant).get(f"/{shown['id']}/file").status_code == 404
    assert exporting.forget_old() >= 1
    assert files.storage().exists(theirs)
    assert not rows.exists()


def test_old_archives_go_with_their_files(client, tenant, engine):
    shown, _ = exported(client, tenant, engine)
    found = Export.objects.using(OPERATOR).get(tenant_id=tenant.pk)
    Export.objects.using(OPERATOR).filter(pk=found.pk).update(
        finished_at=timezone.now() - timedelta(days=8)
    )
    assert exporting.forget_old() == 1
    assert not files.storage().exists(found.file)
    assert Api(client, tenant).get(f"/{shown['id']}").status_code == 404
