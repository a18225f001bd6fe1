"""POST /v1/onboard/{request_id}/claim: the first key, for who signed the tenant up."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from onboarding import claim_tokens
from tests.onboarding.world import activate_owner, provision, request_id_of
from tests.people import bearer


def claim(accepted, token: str | None = None):
    token = token or accepted.json()["claim_token"]
    path = f"/v1/onboard/{accepted.json()['request_id']}/claim"
    return Client().post(path, headers=bearer(token))


def keys_of(operator, tenant_id: int) -> list[tuple]:
    return operator.execute(
        "select prefix, revoked_at is null from tenants_apikey where tenant_id = %s"
        " order by created_at", [tenant_id],
    ).fetchall()  # fmt: skip


def reads_customers(token: str) -> int:
    return Client().get("/v1/customers", headers=bearer(token)).status_code


@pytest.mark.parametrize("plan", ["free", "pro"])
def test_it_gives_the_platform_a_key_that_works_at_once(platform, operator, plan):
    accepted = platform.sign_up(plan=plan)
    provision(operator, accepted)
    given = claim(accepted)
    assert given.status_code == 201
    assert given["Cache-Control"] == "no-store"
    assert given.json()["tenant"]["slug"] == accepted.json()["tenant"]["slug"]
    assert reads_customers(given.json()["key"]) == 200


def test_it_refuses_before_the_tenant_is_ready(platform):
    refused = claim(platform.sign_up())
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ready")
    assert refused["Retry-After"] == "1"


def test_it_gives_a_stranger_a_key_only_after_the_owner_has_come(stranger, operator):
    accepted = stranger.sign_up()
    tenant_id = provision(operator, accepted)
    refused = claim(accepted)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_activated")
    assert keys_of(operator, tenant_id) == []
    activate_owner(operator, tenant_id)
    assert claim(accepted).status_code == 201


def test_it_can_be_claimed_again_and_ends_the_key_before(platform, operator):
    accepted = platform.sign_up()
    tenant_id = provision(operator, accepted)
    first, second = claim(accepted).json(), claim(accepted).json()
    assert keys_of(operator, tenant_id) == [(first["prefix"], False), (second["prefix"], True)]
    assert reads_customers(first["key"]) == 401
    assert reads_customers(second["key"]) == 200


def test_it_cannot_be_claimed_again_once_the_key_was_used(platform, operator):
    accepted = platform.sign_up()
    tenant_id = provision(operator, accepted)
    given = claim(accepted).json()
    operator.execute(
        "update tenants_apikey set last_used_at = now() where tenant_id = %s", [tenant_id]
    )
    refused = claim(accepted)
    assert (refused.status_code, refused.json()["code"]) == (409, "already_claimed")
    assert keys_of(operator, tenant_id) == [(given["prefix"], True)]


def test_it_cannot_be_claimed_again_after_a_quarter_of_an_hour(platform, operator):
    accepted = platform.sign_up()
    tenant_id = provision(operator, accepted)
    claim(accepted)
    operator.execute(
        "update tenants_apikey set created_at = now() - interval '16 minutes' where tenant_id = %s",
        [tenant_id],
    )
    assert claim(accepted).json()["code"] == "already_claimed"


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token.replace("clm_", "clm_f"),
        lambda token: "clm__",
        lambda token: "slw_" + "a" * 12 + "_" + "a" * 32,
        lambda token: token + "\u00e9",
        lambda token: "x" * 10_000,
    ],
    ids=["another mac", "another expiry", "empty", "a key", "not ASCII", "long"],
)
def test_it_refuses_a_token_that_is_not_ours(platform, operator, forge):
    accepted = platform.sign_up()
    tenant_id = provision(operator, accepted)
    token = forge(accepted.json()["claim_token"]).encode().decode("latin-1")
    refused = claim(accepted, token)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_claim_token")
    assert keys_of(operator, tenant_id) == []


def test_it_refuses_the_token_of_another_sign_up(platform, operator):
    mine, others = platform.sign_up(), platform.sign_up()
    provision(operator, mine)
    assert claim(mine, others.json()["claim_token"]).status_code == 401


def test_a_token_ends_with_the_week(platform):
    accepted = platform.sign_up()
    request_id, token = request_id_of(accepted), accepted.json()["claim_token"]
    now = timezone.now()
    assert claim_tokens.is_valid(token, request_id, now=now + timedelta(days=6, hours=23))
    assert not claim_tokens.is_valid(token, request_id, now=now + timedelta(days=7, minutes=1))


def test_a_token_outlives_the_key_that_signed_it_while_that_is_in_the_ring(platform, settings):
    accepted = platform.sign_up()
    request_id, token = request_id_of(accepted), accepted.json()["claim_token"]
    settings.CLAIM_KEYS = [b"n" * 40, *settings.CLAIM_KEYS]
    assert claim_tokens.is_valid(token, request_id, now=timezone.now())
    settings.CLAIM_KEYS = [b"n" * 40]
    assert not claim_tokens.is_valid(token, request_id, now=timezone.now())


def test_the_token_is_stored_nowhere(platform, operator):
    token = platform.sign_up().json()["claim_token"]
    row = operator.execute(
        "select o::text from onboarding_pendingonboarding o order by created_at desc limit 1"
    ).fetchone()
    assert token.split("_")[2] not in row[0]


def test_a_tenants_key_reads_what_it_started_with(platform, operator):
    accepted = platform.sign_up()
    provision(operator, accepted)
    headers = bearer(claim(accepted).json()["key"])
    workspace = Client().get("/v1/workspace", headers=headers).json()
    assert workspace["quiet_hours"] == {"from": "21:00", "until": "08:00"}
    assert workspace["segments"][0]["filter"]["field"] == "consent"
    activity = Client().get("/v1/activity", headers=headers).json()
    assert activity["data"][0]["members"] == 1
