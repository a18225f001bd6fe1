"""Key rings turned while all runs: what an old key made is good until nothing needs it."""

import json
import re
from datetime import UTC, datetime
from io import StringIO
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections

from campaigns.models import ProviderAccount
from campaigns.providers import sealed
from config.embedded import secrets as embedded
from customers.models import Source
from onboarding import claim_tokens
from tenants import rings
from tenants.context import tenant_context
from tenants.models import AuditEntry, Tenant
from tenants.postgres import token
from tenants.postgres.keys import drop_context_keys, install_context_key
from tenants.rings import CannotRotate, Stage, Unfinished
from tests.people import Browser, host_of, make_user
from webhooks import rings as stored_rings
from webhooks import secrets
from webhooks.models import Endpoint

BY = {"actor": "operator:1", "reason": "a drill"}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def use(settings):
    """Lets this process have what the environment is to say."""

    def use(turned):
        for name, value in turned.variables.items():
            many = name in ("STORED_SECRET_KEYS", "CLAIM_KEYS", "SECRET_KEY_FALLBACKS")
            words = [word for word in value.split(",") if word]
            if name in ("CONTEXT_KEY", "CLAIM_KEYS"):
                words = [word.encode() for word in words]
            setattr(settings, name, words if many else words[0])
        return turned

    return use


@pytest.fixture(autouse=True)
def no_workers(operator):
    """None of those lives that other tests played."""
    operator.execute("update jobs_drainer set dead_at = now() where dead_at is null")


def turned_twice(name, use):
    """A ring whose new key signs, while the old one is accepted."""
    ring = rings.ring(name)
    use(ring.turn(**BY))
    use(ring.turn(**BY))
    return ring


@pytest.mark.parametrize("name", ["sessions", "stored", "claims"])
def test_a_new_key_is_accepted_first_then_signs_and_then_the_old_one_goes(name, use):
    ring = rings.ring(name)
    (old,) = ring.keys()
    assert ring.stage() == Stage.SETTLED
    use(ring.turn(**BY))
    assert ring.keys()[0] == old
    new = ring.keys()[1]
    assert ring.stage() == Stage.ACCEPTED
    use(ring.turn(**BY))
    assert ring.keys() == [new, old]
    assert ring.stage() == Stage.USED
    ring.turn(**BY)  # Carries over, as often as it is called.
    use(ring.finish(**BY, now=True))
    assert ring.keys() == [new]
    entries = AuditEntry.objects.using("operator").filter(target__endswith=ring.fingerprint(new))
    assert [entry.action for entry in entries.order_by("at")] == ["keys.made", "keys.used"]
    assert not any(new in str(entry.target) for entry in entries)


@pytest.mark.parametrize("name", ["sessions", "context", "stored", "claims"])
def test_looking_changes_nothing(name):
    ring = rings.ring(name)
    before = AuditEntry.objects.using("operator").count(), ring.stage()
    ring.turn(**BY, dry_run=True)
    assert (AuditEntry.objects.using("operator").count(), ring.stage()) == before
    with pytest.raises(CannotRotate):
        ring.finish(**BY, dry_run=True)


# ---- What is stored ----


@pytest.fixture
def kept(make_tenant):
    """A secret of each sort, of tenants of both homes; the schemas in which they are."""
    tenants = [make_tenant(home) for home in ("pooled", "dedicated")]
    for tenant in tenants:
        with tenant_context(tenant):
            Endpoint.objects.create(
                url="https://a.test/", host="a.test:443",
                secrets=[{"secret": secrets.encrypt("whsec_a"), "made_at": "", "expires_at": None}],
                custom_headers=secrets.encrypt('{"x-key": "b"}'),
            )  # fmt: skip
            ProviderAccount.objects.create(
                name=uuid4().hex, provider="sandbox", base_url="http://127.0.0.1:1", sender="s",
                credentials=sealed({"key": "c"}), options={},
            )  # fmt: skip
            Source.objects.create(
                name=uuid4().hex, url="https://a.test/", headers=secrets.encrypt('{"x": "d"}')
            )
    yield ["public", *(tenant.search_schema for tenant in tenants)]
    with connections["operator"].cursor() as cursor:
        for place in stored_rings.places():
            if place.table != "console_secondfactor":
                cursor.execute(place.statement("delete from {table}"))


def test_every_stored_secret_is_encrypted_by_the_new_key_in_both_homes(kept, use, settings):
    before = stored_rings.count_by_key()
    assert before[0] >= 8
    ring = turned_twice("stored", use)
    assert stored_rings.count_by_key()[1] == before[0]
    with pytest.raises(Unfinished, match=f"{before[0]} secrets are encrypted by the old key"):
        ring.finish(**BY)
    told: list[int] = []
    # A row has one secret in each column here, so that rows and secrets are as many.
    assert ring.turn(**BY, tell=told.append).carried == sum(told) == before[0]
    use(ring.finish(**BY))
    assert len(settings.STORED_SECRET_KEYS) == 1
    assert stored_rings.count_by_key() == before


def test_a_key_that_still_opens_something_is_not_dropped_even_at_once(kept, use, settings):
    unread = stored_rings.count_by_key()[None]  # By what other tests left.
    ring = turned_twice("stored", use)
    new, old = settings.STORED_SECRET_KEYS
    target = f"key:stored:{ring.fingerprint(old)}"
    dropped = AuditEntry.objects.using("operator").filter(target=target, action="keys.dropped")
    before = dropped.count()
    for dry_run in (True, False):
        with pytest.raises(Unfinished, match="run it without --finish"):
            ring.finish(**BY, now=True, dry_run=dry_run)
    with pytest.raises(CommandError, match="encrypted by the old key"):
        rotate("stored", "--finish", "--now", "--reason", "a drill")
    assert [new, old] == settings.STORED_SECRET_KEYS
    assert dropped.count() == before
    ring.turn(**BY)
    assert use(ring.finish(**BY, now=True)).after == Stage.SETTLED
    assert stored_rings.count_by_key()[None] == unread


def test_the_old_key_is_not_dropped_while_a_worker_of_before_lives(kept, use, settings, operator):
    ring = turned_twice("stored", use)
    ring.turn(**BY)
    [(id_,)] = operator.execute(
        "insert into jobs_drainer (host, pid, started_at)"
        " values ('old.test', 815, now() - interval '1 hour') returning id"
    )
    try:
        for now in (False, True):
            with pytest.raises(Unfinished, match=r"Workers run since .* old\.test:815\."):
                ring.finish(**BY, now=now)
        operator.execute("update jobs_drainer set started_at = now() where id = %s", [id_])
        use(ring.finish(**BY))
        assert len(settings.STORED_SECRET_KEYS) == 1
    finally:
        operator.execute("delete from jobs_drainer where id = %s", [id_])


@pytest.mark.parametrize("step", ["accept", "use", "drop"])
def test_killed_between_the_audit_trail_and_the_file_a_step_is_taken_again(
    step, settings, use, monkeypatch, tmp_path
):
    before = embedded.stored_secrets(tmp_path)
    settings.EMBEDDED, settings.STATE_DIR, settings.GENERATED = True, tmp_path, before
    settings.STORED_SECRET_KEYS = [before["STORED_SECRET_KEYS"]]
    monkeypatch.setenv("STORED_SECRET_KEYS", "")
    given = ["stored", "--reason", "a drill", *(["--finish"] if step == "drop" else [])]
    ring = rings.ring("stored")
    for _ in range(["accept", "use", "drop"].index(step)):
        embedded.rewrite(tmp_path, use(ring.turn(**BY)).variables)
    keys, stage = ring.keys(), ring.stage()
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "rewrite", killed)
        with pytest.raises(KeyboardInterrupt):
            rotate(*given)
    assert embedded.stored_secrets(tmp_path)["STORED_SECRET_KEYS"].split(",") == keys
    assert ring.stage() == stage
    rotate(*given)
    after = embedded.stored_secrets(tmp_path)["STORED_SECRET_KEYS"].split(",")
    assert len(after) == {"accept": 2, "use": 2, "drop": 1}[step]
    assert after[0] == (keys[0] if step != "use" else keys[1])


def killed(*args):
    raise KeyboardInterrupt


def test_a_row_that_a_move_refuses_is_left_to_the_next_call(kept, use):
    """The guard of a home that a tenant has left (lifecycle/sql/capture.sql) says SW001."""
    place = next(stored_rings.places())
    before = stored_rings.count_by_key()[0]
    turned_twice("stored", use)
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "create function pool.refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'moving' using errcode = 'SW001'; end $$;"
            f"create trigger refuse before update on {place.schema}.{place.table}"
            " for each row execute function pool.refuse()"
        )
    try:
        carried = rings.ring("stored").turn(**BY).carried
        assert 0 < carried < before
        assert stored_rings.count_by_key()[1] == before - carried
    finally:
        with connections["owner"].cursor() as cursor:
            cursor.execute("drop function pool.refuse cascade")
    assert rings.ring("stored").turn(**BY).carried == before - carried


@pytest.mark.parametrize("home", ["pooled", "dedicated"])
def test_what_a_move_left_behind_needs_no_key(home, make_tenant, use, operator):
    tenant = make_tenant("dedicated")
    rows = stored_rings.count_by_key().total()
    with tenant_context(tenant):
        Source.objects.create(
            name=uuid4().hex, url="https://a.test/", headers=secrets.encrypt('{"x": "d"}')
        )
    assert stored_rings.count_by_key().total() == rows + 1
    own, table = tenant.schema_name, Source._meta.db_table
    with connections["operator"].cursor() as cursor:
        cursor.execute(f'insert into pool."{table}" select * from "{own}"."{table}"')
    try:
        Tenant.objects.using("operator").filter(pk=tenant.pk).update(home=home)
        assert stored_rings.count_by_key().total() == rows + 1
        ring = turned_twice("stored", use)
        ring.turn(**BY)
        assert use(ring.finish(**BY)).after == Stage.SETTLED
    finally:
        Tenant.objects.using("operator").filter(pk=tenant.pk).update(home="dedicated")
        with connections["operator"].cursor() as cursor:
            for schema in ("pool", own):
                cursor.execute(
                    f'delete from "{schema}"."{table}" where tenant_id = %s', [tenant.pk]
                )


def test_a_row_that_was_changed_meanwhile_is_left_as_it_is(kept, use):
    place = next(stored_rings.places())
    with connections["operator"].cursor() as cursor:
        cursor.execute(place.statement("select {key}, {column}::text from {table} limit 1"))
        key, text = cursor.fetchone()
    turned_twice("stored", use)
    assert (
        stored_rings._renewed(place, key, text.replace('"made_at": ""', '"made_at": "x"')) is False
    )
    assert stored_rings.count_by_key()[0] == 0
    assert stored_rings._renewed(place, key, text) is True
    assert stored_rings._renewed(place, key, text) is False


def test_no_column_with_secrets_is_missing_in_the_registry(kept):
    """Wherever in the catalogue there is text that this ring encrypted."""
    known = {(place.schema, place.table, place.column) for place in stored_rings.places()}
    with connections["owner"].cursor() as cursor:
        cursor.execute(
            "select table_schema, table_name, column_name from information_schema.columns"
            " where data_type in ('text', 'character varying', 'jsonb')"
            " and table_schema = any(%s)",
            [kept],  # In others lies what tenants of other tests left behind when they moved.
        )
        found = set()
        for schema, table, column in cursor.fetchall():
            cursor.execute(
                f'select 1 from "{schema}"."{table}" where "{column}"::text ~ %s limit 1',
                [stored_rings.TOKEN.pattern],
            )
            if cursor.fetchone():
                found.add((schema, table, column))
    assert found <= known
    assert len([schema for schema, *_ in found if schema != "public"]) == 2  # One in each home.
    assert len(found) >= 5


# ---- What is signed ----


def test_nobody_is_signed_out_from_the_first_step_to_the_last(tenant, use):
    browser, member = Browser(host_of(tenant)), make_user(tenant)
    assert browser.login(member).status_code == 302

    cookie = browser.cookie()

    def signed_in() -> bool:
        return "Sign out" in browser.get("/").content.decode()

    ring = turned_twice("sessions", use)
    assert signed_in()
    with pytest.raises(Unfinished, match="sessions are signed by the old key"):
        ring.finish(**BY)
    assert ring.turn(**BY).carried >= 1
    with pytest.raises(Unfinished, match="Activation links"):
        ring.finish(**BY)
    use(ring.finish(**BY, now=True))
    assert signed_in()
    # And with the cookie of before: requests under way know no other.
    assert browser.cookie() == cookie


def test_a_claim_token_of_the_old_key_is_good_until_it_is_dropped(use):
    request_id = uuid4()
    made = claim_tokens.make(request_id, created_at=NOW)
    ring = turned_twice("claims", use)
    assert claim_tokens.make(request_id, created_at=NOW) != made
    assert claim_tokens.is_valid(made, request_id, now=NOW)
    with pytest.raises(Unfinished, match="seven days"):
        ring.finish(**BY)
    use(ring.finish(**BY, now=True))
    assert not claim_tokens.is_valid(made, request_id, now=NOW)


# ---- The tenant context ----


@pytest.fixture
def context(settings):
    """The ring, and one key in the database before and after."""
    own = settings.CONTEXT_KEY
    yield rings.ring("context")
    with connections["owner"].cursor() as cursor:
        install_context_key(cursor, own)
        drop_context_keys(cursor, keep=token.key_id(own))


def count_as(tenant) -> int:
    connections["default"].close()  # What it entered, it need not enter again.
    with tenant_context(tenant):
        return Tenant.objects.count()


def test_contexts_of_both_keys_are_accepted_until_the_old_one_is_dropped(
    context, tenant, use, settings
):
    old = settings.CONTEXT_KEY
    use(context.turn(**BY))
    assert old != settings.CONTEXT_KEY
    assert context.stage() == Stage.USED
    assert count_as(tenant) == 1
    new, settings.CONTEXT_KEY = settings.CONTEXT_KEY, old
    assert context.stage() == Stage.ACCEPTED
    assert count_as(tenant) == 1
    with pytest.raises(CannotRotate, match="not the newest"):
        context.finish(**BY, now=True)
    settings.CONTEXT_KEY = new
    with pytest.raises(Unfinished, match="quarter of an hour"):
        context.finish(**BY)
    context.finish(**BY, now=True)
    assert count_as(tenant) == 1
    settings.CONTEXT_KEY = old
    with pytest.raises(Exception, match="forged"):
        count_as(tenant)


# ---- The command ----


def rotate(*arguments: str) -> str:
    out = StringIO()
    call_command("rotate-keys", *arguments, stdout=out)
    return out.getvalue()


def test_it_says_which_variables_to_set_and_shows_no_old_key(settings, use):
    settings.EMBEDDED = False
    (old,) = settings.STORED_SECRET_KEYS
    said = rotate("stored", "--reason", "a drill")
    (line,) = [line.strip() for line in said.splitlines() if "STORED_SECRET_KEYS=" in line]
    assert line.startswith("STORED_SECRET_KEYS=<key 1 of now>,")
    assert old not in said
    Fernet(line.rpartition(",")[2])  # The new one, to be set.
    told = json.loads(rotate("sessions", "--reason", "a drill", "--json"))
    assert told["set"]["SECRET_KEY"] == "<SECRET_KEY of now>"
    assert re.fullmatch("[0-9a-f]{64}", told["set"]["SECRET_KEY_FALLBACKS"])


def test_it_needs_a_reason_and_says_when_it_is_too_early(use):
    with pytest.raises(CommandError, match="--reason"):
        rotate("claims")
    assert "Nothing was changed." in rotate("claims", "--dry-run")
    turned_twice("claims", use)
    with pytest.raises(CommandError, match="Wait until") as refused:
        rotate("claims", "--finish", "--reason", "a drill")
    assert refused.value.returncode == 3


def test_with_the_embedded_postgres_it_writes_the_keys_itself(settings, tmp_path, use, monkeypatch):
    before = embedded.stored_secrets(tmp_path)
    settings.EMBEDDED, settings.STATE_DIR = True, tmp_path
    settings.GENERATED = before
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = before["SECRET_KEY"], []
    for name in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        monkeypatch.setenv(name, "")  # So that what the command sets is taken back.
    said = rotate("sessions", "--reason", "a drill")
    after = embedded.stored_secrets(tmp_path)
    new = after.pop("SECRET_KEY_FALLBACKS")
    assert after == before
    assert new not in said
    settings.SECRET_KEY_FALLBACKS = [new]
    rotate("sessions", "--reason", "a drill")
    after = embedded.stored_secrets(tmp_path)
    assert (after["SECRET_KEY"], after["SECRET_KEY_FALLBACKS"]) == (new, before["SECRET_KEY"])
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("secrets.env*")] == ["secrets.env"]
