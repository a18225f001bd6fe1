"""Lists of messages: as quick for a campaign of thousands beside another one as for three."""

import json

import pytest
from django.db import connections

from campaigns import listing
from jobs.states import State
from tenants.context import tenant_context
from tests.campaigns import brought

CROWD = 4000
MOST = 200  # Rows for a page of 50, where 100 are looked at.
OTHERS = """
insert into campaigns_message
  (id, tenant_id, campaign_id, lane, account_key, phone, params, max_attempts, state, finished_at)
select uuidv7(), %(tenant)s, %(campaign)s, 'campaign:' || %(campaign)s, 'account:x', '+491' || n,
  '{}', 4, (%(states)s::text[])[1 + n %% 4], now()
from generate_series(1, %(crowd)s) n
"""
QUERIES = [
    "messages",
    "messages?status=failed",
    "messages?status=unknown",
    "messages?status=cancelled",
    "messages?status=sent",
    "messages?status=queued",
    "messages?phone=%2B4930100001",
    "skips",
]


@pytest.fixture
def crowd(desk, operator):
    """A campaign nearly all of whose messages were sent, and another one with all sorts of them."""
    other, one = brought.campaign(desk.tenant), brought.campaign(desk.tenant)
    all_sorts = ["dead_letter", "unknown", "cancelled", "succeeded"]
    for campaign, states in ((other, all_sorts), (one, ["succeeded"] * 4)):
        values = {"tenant": desk.tenant.pk, "campaign": campaign.pk, "crowd": CROWD}
        operator.execute(OTHERS, values | {"states": states})
    for n, state in enumerate((State.PENDING, State.DEAD_LETTER, State.UNKNOWN)):
        brought.message(one, n, state=state)
    with connections["owner"].cursor() as cursor:
        cursor.execute("analyze campaigns_message")
        yield one
        operator.execute("delete from campaigns_message where tenant_id = %s", [desk.tenant.pk])
        cursor.execute("vacuum analyze campaigns_message")


@pytest.mark.parametrize("query", QUERIES)
def test_a_list_looks_at_few_rows_by_an_index(desk, crowd, query, monkeypatch):
    monkeypatch.setattr(listing, "LOOKED_AT", 100)
    with connections["default"].execute_wrapper(heard := Heard()):
        answer = desk.get(f"/campaigns/cmp_{crowd.pk}/{query}")
    assert answer.status_code == 200
    assert heard.asked
    assert not any("count(" in sql.lower() for sql, _ in heard.asked)
    for sql, params in heard.asked:
        with tenant_context(desk.tenant), connections["default"].cursor() as cursor:
            cursor.execute(f"explain (analyze, format json) {sql}", params)
            (answer,) = cursor.fetchone()
        plan = json.loads(answer) if isinstance(answer, str) else answer
        assert looked_at(plan[0]["Plan"]) <= MOST, (sql, plan)


class Heard:
    """The statements about messages and skips."""

    def __init__(self):
        self.asked = []

    def __call__(self, execute, sql, params, many, context):
        if 'from "campaigns_message"' in sql.lower() or 'from "campaigns_skip"' in sql.lower():
            self.asked.append((sql, params))
        return execute(sql, params, many, context)


def looked_at(node) -> int:
    """Rows that a plan's scans read."""
    below = sum(looked_at(each) for each in node.get("Plans", ()))
    if "Scan" not in node["Node Type"] or "Relation Name" not in node:
        return below
    read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return below + int(read * node["Actual Loops"])
