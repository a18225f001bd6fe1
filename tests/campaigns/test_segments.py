"""Filters and segments: what is asked is what is found, and nothing else is run."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.errors import InvalidFilter
from campaigns.segments import parse
from customers.models import Customer
from tenants.context import tenant_context
from tests.campaigns.desk import Desk, pointers

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def found(tenant, filter, at=NOW):
    """The external ids of those whom a filter means."""
    sql, values = parse(filter).sql(at)
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute(
            "select external_id from customers_customer c"
            f" where c.tenant_id = %(tenant)s and {sql}",
            {"tenant": tenant.pk, **values},
        )
        return {row[0] for row in cursor.fetchall()}


def leaf(field, op, value=None, **more):
    return {"field": field, "op": op, **({} if value is None else {"value": value}), **more}


PEOPLE = [
    {"external_id": "ada", "name": "Ada Lovelace", "phone": "+4930901820", "consent": "given",
     "lifetime_value": Decimal("12000.50"), "last_purchase_at": NOW - timedelta(days=10),
     "attributes": {"city": "Berlin", "age": 36, "tags": ["vip", "Early"], "born": "1815-12-10",
                    "home": {"floor": 3}, "vegan": True}},
    {"external_id": "bob", "name": "Bob", "email": "bob@example.org", "consent": "withdrawn",
     "lifetime_value": Decimal("99.99"), "last_purchase_at": NOW - timedelta(days=400),
     "attributes": {"city": "berlin", "age": "36", "tags": "vip", "born": "unknown",
                    "home.floor": 3, "vegan": "true"}},
    {"external_id": "cyd", "attributes": {"city": None, "age": 7.5, "tags": [1, ["vip"]],
                                          "born": "2030-02-31T10:00:00Z"}},
    {"external_id": "dan", "name": "100%_\\", "attributes": {"city": "", "age": [36]}},
]  # fmt: skip
EVERYBODY = {"ada", "bob", "cyd", "dan"}

MEANT = [
    ({"all": []}, EVERYBODY),
    (leaf("name", "=", "Bob"), {"bob"}),
    (leaf("name", "=", "bob"), set()),
    (leaf("name", "=", "bob", ignore_case=True), {"bob"}),
    (leaf("name", "!=", "Bob"), EVERYBODY - {"bob"}),
    (leaf("name", "in", ["Bob", "Ada Lovelace"]), {"ada", "bob"}),
    (leaf("name", "in", ["BOB"], ignore_case=True), {"bob"}),
    (leaf("name", "not_in", ["Bob"]), EVERYBODY - {"bob"}),
    (leaf("name", "contains", "Love"), {"ada"}),
    (leaf("name", "contains", "LOVE", ignore_case=True), {"ada"}),
    (leaf("name", "starts_with", "Ada"), {"ada"}),
    (leaf("name", "contains", "%"), {"dan"}),
    (leaf("name", "starts_with", "1__"), set()),
    (leaf("name", "contains", "_\\"), {"dan"}),
    (leaf("name", "is_set"), {"ada", "bob", "dan"}),
    (leaf("name", "is_not_set"), {"cyd"}),
    (leaf("email", "is_set"), {"bob"}),
    (leaf("lifetime_value", ">", 10000), {"ada"}),
    (leaf("lifetime_value", "=", "99.99"), {"bob"}),
    (leaf("lifetime_value", "=", 99.99), {"bob"}),
    (leaf("lifetime_value", "<=", 0), {"cyd", "dan"}),
    (leaf("lifetime_value", "in", [0, "12000.50"]), {"ada", "cyd", "dan"}),
    (leaf("lifetime_value", "!=", 0), {"ada", "bob"}),
    (leaf("consent", "!=", "withdrawn"), EVERYBODY - {"bob"}),
    (leaf("consent", "in", ["given", "withdrawn"]), {"ada", "bob"}),
    (leaf("last_purchase_at", "after", "2026-01-01"), {"ada"}),
    (leaf("last_purchase_at", "before", "2026-01-01T00:00:00+02:00"), {"bob"}),
    (leaf("last_purchase_at", "is_not_set"), {"cyd", "dan"}),
    (leaf("last_purchase_at", "within_last", days=365), {"ada"}),
    (leaf("last_purchase_at", "not_within_last", days=365, never=False), {"bob"}),
    (leaf("last_purchase_at", "not_within_last", days=365, never=True), {"bob", "cyd", "dan"}),
    ({"not": leaf("last_purchase_at", "within_last", days=365)}, {"bob", "cyd", "dan"}),
    ({"not": {"not": leaf("last_purchase_at", "within_last", days=365)}}, {"ada"}),
    (leaf("created_at", "not_within_last", days=1), set()),
    (leaf("attributes.city", "=", "Berlin"), {"ada"}),
    (leaf("attributes.city", "=", "BERLIN", ignore_case=True), {"ada", "bob"}),
    (leaf("attributes.city", "in", ["BERLIN"], ignore_case=True), {"ada", "bob"}),
    (leaf("attributes.city", "!=", "Berlin"), EVERYBODY - {"ada"}),
    (leaf("attributes.city", "is_not_set"), {"cyd", "dan"}),
    (leaf("attributes.city", "starts_with", "ber"), {"bob"}),
    (leaf("attributes.city", "contains", "erl"), {"ada", "bob"}),
    (leaf("attributes.age", "=", 36), {"ada"}),
    (leaf("attributes.age", "=", 36.0), {"ada"}),
    (leaf("attributes.age", "=", "36"), {"bob"}),
    (leaf("attributes.age", ">", 7), {"ada", "cyd"}),
    (leaf("attributes.age", "<", 36), {"cyd"}),
    (leaf("attributes.age", "in", [36, "36"]), {"ada", "bob"}),
    (leaf("attributes.age", "not_in", [36, "36"]), {"cyd", "dan"}),
    (leaf("attributes.vegan", "=", True), {"ada"}),
    (leaf("attributes.tags", "contains", "vip"), {"ada", "bob"}),
    (leaf("attributes.tags", "contains", "early"), set()),
    (leaf("attributes.tags", "contains", "early", ignore_case=True), {"ada"}),
    (leaf("attributes.tags", "contains", 1), {"cyd"}),
    (leaf("attributes.born", "before", "1900-01-01"), {"ada"}),
    (leaf("attributes.born", "after", "2030-01-01"), {"cyd"}),
    (leaf("attributes.born", "within_last", days=30), {"cyd"}),
    (leaf("attributes.born", "not_within_last", days=30, never=False), {"ada"}),
    (leaf("attributes.born", "not_within_last", days=30, never=True), {"ada", "bob", "dan"}),
    (leaf("attributes.home.floor", "=", 3), {"ada", "bob"}),
    (leaf("attributes.nothing", "is_set"), set()),
    ({"any": [leaf("name", "=", "Bob"), leaf("attributes.age", ">", 30)]}, {"ada", "bob"}),
    ({"all": [leaf("name", "is_set"), {"not": leaf("consent", "=", "given")}]}, {"bob", "dan"}),
]  # fmt: skip


def test_it_means_whom_it_says(home, client):
    Desk(client, home).add(*PEOPLE)
    for filter, meant in MEANT:
        assert found(home, filter) == meant, filter
