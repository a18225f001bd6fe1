"""Filters and segments: what is asked is what is found, and nothing else is run."""

import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns.errors import InvalidFilter
from campaigns.segments import parse
from customers.models import Customer
from onboarding.steps.workspace import SAMPLE_SEGMENT
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


REFUSED = [
    ({}, ["/filter"]),
    ({"any": []}, ["/filter/any"]),
    ({"all": {}}, ["/filter/all"]),
    ({"all": [3]}, ["/filter/all/0"]),
    ({"all": [], "any": []}, ["/filter/any"]),
    ({"not": leaf("nme", "=", "x")}, ["/filter/not/field"]),
    ({"any": [leaf("name", "is_set"), leaf("name", "is")]}, ["/filter/any/1/op"]),
    ({"field": "name"}, ["/filter/op"]),
    (leaf("name", "="), ["/filter/value"]),
    (leaf("name", "=", 3), ["/filter/value"]),
    (leaf("name", "=", ""), ["/filter/value"]),
    (leaf("name", "=", "x" * 501), ["/filter/value"]),
    (leaf("name", "=", "a\0"), ["/filter/value"]),
    (leaf("name", "in", []), ["/filter/value"]),
    (leaf("name", "in", ["x"] * 1001), ["/filter/value"]),
    (leaf("name", "in", ["x", 3]), ["/filter/value/1"]),
    (leaf("name", ">", "x"), ["/filter/op"]),
    (leaf("name", "is_set", "x"), ["/filter/value"]),
    (leaf("name", "=", "x", ignore_case="yes"), ["/filter/ignore_case"]),
    (leaf("name", "=", "x", **{"a/b": 1}), ["/filter/a~1b"]),
    (leaf("lifetime_value", ">", "much"), ["/filter/value"]),
    (leaf("lifetime_value", ">", True), ["/filter/value"]),
    (leaf("lifetime_value", ">", "NaN"), ["/filter/value"]),
    (leaf("lifetime_value", ">", "1e999"), ["/filter/value"]),
    (leaf("lifetime_value", "=", 1.005), ["/filter/value"]),
    (leaf("lifetime_value", "is_set"), ["/filter/op"]),
    (leaf("last_purchase_at", "before", "2026-02-30"), ["/filter/value"]),
    (leaf("last_purchase_at", "before", "2026-02-03T00:00:00"), ["/filter/value"]),
    (leaf("last_purchase_at", "not_within_last", days=9), ["/filter/never"]),
    (leaf("last_purchase_at", "within_last", days=0), ["/filter/days"]),
    (leaf("last_purchase_at", "within_last"), ["/filter/days"]),
    (leaf("created_at", "not_within_last", days=9, never=True), ["/filter/never"]),
    (leaf("consent", "=", "yes"), ["/filter/value"]),
    (leaf("attributes.", "is_set"), ["/filter/field"]),
    (leaf("attributes." + "k" * 130, "is_set"), ["/filter/field"]),
    (leaf("attributes.age", ">", "7"), ["/filter/value"]),
    (leaf("attributes.age", "=", [7]), ["/filter/value"]),
    (leaf("attributes.age", "=", 7, ignore_case=True), ["/filter/value"]),
    (leaf("attributes.born", "before", "2026-01-01T00:00:00Z"), ["/filter/value"]),
    ({"all": [leaf("x", "="), leaf("name", "=")]}, ["/filter/all/0/field", "/filter/all/1/value"]),
]  # fmt: skip


@pytest.mark.parametrize(("filter", "places"), REFUSED)
def test_it_points_at_what_it_cannot_read(filter, places):
    with pytest.raises(InvalidFilter) as refused:
        parse(filter)
    assert [error.pointer for error in refused.value.errors] == places


def test_it_says_what_there_is_and_what_was_meant():
    with pytest.raises(InvalidFilter) as refused:
        parse({"all": [leaf("lifetme_value", ">", 1), leaf("name", "startswith", "A")]})
    field, op = (error.message for error in refused.value.errors)
    assert "Did you mean lifetime_value?" in field
    assert "attributes.<key>" in field
    assert "Did you mean starts_with?" in op


def nested(depth):
    filter = leaf("name", "is_set")
    for _ in range(depth - 1):
        filter = {"not": filter}
    return filter


def test_it_bounds_depth_number_and_size():
    parse(nested(8))
    parse({"any": [leaf("name", "is_set")] * 100})
    half = {"all": [leaf("name", "is_set")] * 60}
    for filter in (
        nested(9),
        {"any": [leaf("name", "is_set")] * 101},
        {"all": [half, half]},
        {"all": [leaf("name", "in", ["x" * 400] * 200)]},
        nested(500),
    ):
        with pytest.raises(InvalidFilter):
            parse(filter)


HOSTILE = [
    "' or 1=1 --", "'; drop table customers_customer; --", "%(tenant)s", "%s", "%", "{0}", "{}",
    "$1", '"', "\\", "\\'", "''", "x') or (true", "'::text", "/*", "' || pg_sleep(9) || '", "\x01",
    "a.b", ".", "..", "{{ name }}", "é\u202e", "🦆",
]  # fmt: skip


def test_hostile_texts_are_only_compared_with(home, client):
    """Each names one customer, by value and by key, and nobody else."""
    rows = [
        {"external_id": str(n), "name": text, "attributes": {text: text}}
        for n, text in enumerate(HOSTILE)
    ]
    Desk(client, home).add(*rows)
    for n, text in enumerate(HOSTILE):
        for op in ("=", "starts_with", "contains"):
            assert str(n) in found(home, leaf("name", op, text)), (op, text)
        assert found(home, leaf("name", "=", text)) == {str(n)}
        assert found(home, leaf("name", "in", [text])) == {str(n)}
        assert found(home, leaf(f"attributes.{text}", "=", text)) == {str(n)}
        assert found(home, leaf(f"attributes.{text}", "in", [text])) == {str(n)}
    sql, _ = parse({"all": [leaf(f"attributes.{text}", "=", text) for text in HOSTILE]}).sql()
    assert not any(text in sql for text in HOSTILE if len(text) > 4)


def test_it_finds_nobody_of_another_tenant(home, other_desk, client):
    Desk(client, home).add({"external_id": "mine"})
    other_desk.add({"external_id": "theirs"})
    assert found(home, {"all": []}) == {"mine"}
    with tenant_context(home), connection.cursor() as cursor:
        cursor.execute("select count(*) from customers_customer c where true")
        assert cursor.fetchone() == (1,)


# ---- The same, worked out in Python ----

EXAMPLES = 300 if os.environ.get("SLIPWAY_CHAOS") == "long" else 12

WORDS = ["a", "A", "ab", "b%", "2026-02-01", "7"]
SCALARS = st.sampled_from([*WORDS, "", 0, 7, -1.5, 7.0, True, False])
JSON = st.one_of(
    SCALARS, st.none(), st.lists(SCALARS, max_size=3), st.dictionaries(st.just("k"), SCALARS)
)
CUSTOMERS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["", *WORDS]),
        "lifetime_value": st.sampled_from([Decimal("0.00"), Decimal("7.00"), Decimal("7.50")]),
        "last_purchase_at": st.sampled_from([None, *(NOW - timedelta(days=n) for n in (-1, 0, 7))]),
        "attributes": st.dictionaries(st.sampled_from(["k", "o", "o.k"]), JSON),
    }
)  # fmt: skip
KEYS = st.sampled_from(["attributes.k", "attributes.o", "attributes.o.k"])
FIELDS = st.one_of(st.just("name"), KEYS)


def leaves():
    word = st.sampled_from(WORDS)
    value = st.sampled_from([*WORDS, 0, 7, -1.5, True])
    case = st.booleans()
    ages = st.sampled_from([1, 7, 30])
    both = st.sampled_from(["last_purchase_at", "attributes.k"])
    equal = st.sampled_from(["=", "!="])
    order = st.sampled_from(["<", "<=", ">", ">="])
    amount = st.sampled_from([0, 7, "7.5"])
    day = st.sampled_from(["2026-02-01", "2026-02-22"])
    build = st.builds
    return st.one_of(
        build(leaf, FIELDS, equal, word, ignore_case=case),
        build(leaf, FIELDS, st.sampled_from(["contains", "starts_with"]), word, ignore_case=case),
        build(leaf, FIELDS, st.sampled_from(["in", "not_in"]), st.lists(word, min_size=1)),
        build(leaf, KEYS, equal, value),
        build(leaf, KEYS, st.sampled_from(["in", "not_in"]), st.lists(value, min_size=1)),
        build(leaf, KEYS, st.just("contains"), value),
        build(leaf, KEYS, order, st.sampled_from([0, 7, 7.0, -1.5])),
        build(leaf, st.just("lifetime_value"), st.one_of(order, equal), amount),
        build(leaf, st.one_of(FIELDS, both), st.sampled_from(["is_set", "is_not_set"])),
        build(leaf, both, st.sampled_from(["before", "after"]), day),
        build(leaf, both, st.just("within_last"), days=ages),
        build(leaf, both, st.just("not_within_last"), days=ages, never=case),
    )  # fmt: skip


TREES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda parts: {"all": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


def means(filter, row):
    """docs/segments.md, in Python."""
    if "all" in filter:
        return all(means(part, row) for part in filter["all"])
    if "any" in filter:
        return any(means(part, row) for part in filter["any"])
    if "not" in filter:
        return not means(filter["not"], row)
    op = filter["op"]
    opposite = {"!=": "=", "not_in": "in", "is_not_set": "is_set"}
    if op in opposite:
        return not means(filter | {"op": opposite[op]}, row)
    return one(filter, op, value_of(row, filter["field"]), filter.get("value"))


def value_of(row, field):
    if not field.startswith("attributes."):
        return row[field]
    key = field.removeprefix("attributes.")
    outer, _, inner = key.partition(".")
    nested = row["attributes"].get(outer)
    return row["attributes"].get(key, nested.get(inner) if isinstance(nested, dict) else None)


def same(one, other):
    """As JSON has it: 7 is 7.0, and true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def one(filter, op, has, value):
    fold = (lambda text: text.lower()) if filter.get("ignore_case") else (lambda text: text)
    is_text = isinstance(has, str)
    if filter["field"] == "lifetime_value":
        value = Decimal(str(value))
    match op:
        case "is_set":
            return has is not None and has != ""
        case "=":
            folded = is_text and isinstance(value, str)
            return fold(has) == fold(value) if folded else same(has, value)
        case "in":
            return any(same(has, each) for each in value)
        case "contains":
            if isinstance(has, list):
                return any(
                    fold(each) == fold(value)
                    if isinstance(each, str) and isinstance(value, str)
                    else same(each, value)
                    for each in has
                )
            return is_text and isinstance(value, str) and fold(value) in fold(has)
        case "starts_with":
            return is_text and fold(has).startswith(fold(value))
        case "<" | "<=" | ">" | ">=":
            if isinstance(has, bool) or not isinstance(has, (int, float, Decimal)):
                return False
            return {"<": has < value, "<=": has <= value, ">": has > value, ">=": has >= value}[op]
    return on_time(filter, op, has, value)


def on_time(filter, op, has, value):
    """Attributes by their day, as text; times by the moment."""
    if filter["field"] == "last_purchase_at":
        limit = datetime.fromisoformat(f"{value}T00:00:00Z") if value else None
        since = NOW - timedelta(days=filter.get("days", 0))
    else:
        has = has if isinstance(has, str) and has.startswith("2026-") else None
        limit, since = value, (NOW - timedelta(days=filter.get("days", 0))).date().isoformat()
    match op:
        case "before":
            return has is not None and has < limit
        case "after":
            return has is not None and has >= limit
        case "within_last":
            return has is not None and has >= since
    return filter["never"] if has is None else has < since


def test_sql_means_what_plain_python_means(tenant):
    """Any tree, over any customers."""

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        rows=st.lists(CUSTOMERS, min_size=1, max_size=12),
        trees=st.lists(TREES, min_size=5, max_size=12),
    )
    def compare(rows, trees):
        with tenant_context(tenant):
            Customer.objects.all().delete()
            Customer.objects.bulk_create(
                [Customer(external_id=str(n), **row) for n, row in enumerate(rows)]
            )
        for tree in trees:
            if too_deep(tree):
                continue
            meant = {str(n) for n, row in enumerate(rows) if means(tree, row)}
            assert found(tenant, tree) == meant, (json.dumps(tree), rows)

    compare()


def too_deep(tree):
    try:
        parse(tree)
    except InvalidFilter as error:
        return error.errors[0].code == "too_deep"
    return False


# ---- The API ----

RICH = leaf("lifetime_value", ">", 10000)


def test_it_keeps_changes_and_forgets_a_segment(desks):
    made = desks.made("/segments", {"name": "Rich", "filter": RICH})
    assert made["id"].startswith("seg_")
    assert made["filter"] == RICH
    path = f"/segments/{made['id']}"
    assert desks.get(path).json() == made
    assert desks.get("/segments").json() == {"data": [made], "next_cursor": None}
    changed = desks.patch(path, {"name": "Very rich"}).json()
    assert (changed["name"], changed["filter"]) == ("Very rich", RICH)
    assert changed["updated_at"] > made["updated_at"]
    assert desks.patch(path, {"filter": {"all": []}}).json()["filter"] == {"all": []}
    assert desks.delete(path).status_code == 204
    assert desks.get(path).status_code == desks.delete(path).status_code == 404
    assert desks.get("/segments").json()["data"] == []


def test_it_refuses_a_bad_filter_with_the_place(desk):
    bad = {"name": "Bad", "filter": {"all": [leaf("nme", "=", "x")]}}
    assert pointers(desk.post("/segments", bad), "invalid_filter") == ["/filter/all/0/field"]
    made = desk.made("/segments", {"name": "Rich", "filter": RICH})
    refused = desk.patch(f"/segments/{made['id']}", {"filter": {}})
    assert pointers(refused, "invalid_filter") == ["/filter"]
    assert desk.get(f"/segments/{made['id']}").json() == made


def test_a_name_is_taken_until_its_segment_is_deleted(desk, other_desk):
    wish = {"name": "Rich", "filter": RICH}
    first = desk.made("/segments", wish)
    assert desk.post("/segments", wish).json()["code"] == "name_taken"
    other_desk.made("/segments", wish)
    second = desk.made("/segments", wish | {"name": "Other"})
    refused = desk.patch(f"/segments/{second['id']}", {"name": "Rich"})
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    desk.delete(f"/segments/{first['id']}")
    desk.made("/segments", wish)


def test_a_tenant_has_so_many_segments_and_no_more(desk, settings):
    most = settings.SLIPWAY["CAMPAIGNS"] | {"segments_most": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"CAMPAIGNS": most}
    made = desk.made("/segments", {"name": "One", "filter": RICH})
    refused = desk.post("/segments", {"name": "Two", "filter": RICH})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_segments")
    desk.delete(f"/segments/{made['id']}")
    desk.made("/segments", {"name": "Two", "filter": RICH})


def test_nobody_else_reads_changes_or_deletes_it(desk, other_desk):
    made = desk.made("/segments", {"name": "Rich", "filter": RICH})
    path = f"/segments/{made['id']}"
    assert other_desk.get(path).status_code == 404
    assert other_desk.patch(path, {"name": "Mine"}).status_code == 404
    assert other_desk.delete(path).status_code == 404
    assert other_desk.get("/segments").json()["data"] == []
    assert desk.get(path).json() == made


def test_segments_need_their_scopes(client, tenant):
    reader = Desk(client, tenant, "campaigns:read")
    assert reader.get("/segments").status_code == 200
    assert reader.post("/segments", {"name": "R", "filter": RICH}).status_code == 403
    assert Desk(client, tenant, "customers:read").get("/segments").status_code == 403


def test_the_audit_trail_says_who_and_not_what(desk, operator):
    filter = leaf("phone", "=", "+4930901820")
    made = desk.made("/segments", {"name": "One", "filter": filter})
    desk.patch(f"/segments/{made['id']}", {"filter": RICH})
    desk.delete(f"/segments/{made['id']}")
    entries = operator.execute(
        "select action, actor, before::text || after::text from tenants_auditentry"
        " where tenant_id = %s and action like 'segment.%%' order by at",
        [desk.tenant.pk],
    ).fetchall()
    assert [entry[0] for entry in entries] == [
        "segment.created", "segment.changed", "segment.deleted"
    ]  # fmt: skip
    assert all(entry[1].startswith("api_key:") for entry in entries)
    assert "4930901820" not in str(entries)


def test_the_segment_that_a_tenant_starts_with_is_one_that_is_taken(desk):
    """What GET /v1/workspace shows may be posted as it is."""
    made = desk.made("/segments", SAMPLE_SEGMENT)
    assert made["filter"] == SAMPLE_SEGMENT["filter"]
