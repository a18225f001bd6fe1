"""The catalogue of event types: the platform changes it, everybody reads it, events keep to it."""

import threading
import uuid

import orjson
import pytest
from django.db import ProgrammingError, connections, transaction

from tenants.context import tenant_context
from tests.people import platform_key, prefix_of, tenant_key
from tests.webhooks.ears import publish_in
from tests.webhooks.test_events_api import Caller, pointers
from webhooks import catalogue, schemas
from webhooks.errors import InvalidEvent, InvalidSchema
from webhooks.models import Event

AMOUNT = {
    "type": "object",
    "properties": {"amount": {"type": "integer", "minimum": 1}, "to": {"$ref": "#/$defs/person"}},
    "required": ["amount"],
    "additionalProperties": False,
    "$defs": {"person": {"type": "object", "required": ["name"]}},
}


@pytest.fixture
def platform() -> Caller:
    return Caller(platform_key())


@pytest.fixture
def caller(tenant) -> Caller:
    return Caller(tenant_key(tenant))


@pytest.fixture
def name() -> str:
    """A name that no other test has: the catalogue is everybody's."""
    return f"t{uuid.uuid4().hex[:12]}.paid"


def put(caller: Caller, name: str, schema=None, **fields):
    return caller.call("POST", "/v1/event-types", {"name": name, "schema": schema, **fields})


def rows_of(operator, name: str) -> list[tuple]:
    return operator.execute(
        "select version, schema, archived_at is not null from webhooks_eventtype"
        " where name = %s order by version",
        [name],
    ).fetchall()


# ---- Changing ----


def test_the_platform_adds_a_type_and_every_key_reads_it(platform, caller, name):
    added = put(platform, name, AMOUNT, description="An invoice was paid.")
    assert added.status_code == 201
    assert added.json()["version"] == 1
    for reader in (platform, caller):
        shown = reader.get(f"/v1/event-types/{name}").json()
        assert shown["schema"] == AMOUNT
        assert shown["description"] == "An invoice was paid."
        assert (shown["versions"], shown["built_in"], shown["archived_at"]) == ([1], False, None)


def test_another_schema_makes_the_next_version_and_the_old_one_stays(platform, operator, name):
    put(platform, name, AMOUNT)
    second = put(platform, name, {"type": "object"})
    assert (second.status_code, second.json()["version"]) == (201, 2)
    again = put(platform, name, {"type": "object"}, description="Told anew.")
    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert again.json()["description"] == "Told anew."
    assert [row[:2] for row in rows_of(operator, name)] == [(1, AMOUNT), (2, {"type": "object"})]
    assert platform.get(f"/v1/event-types/{name}").json()["versions"] == [2, 1]
    assert platform.get(f"/v1/event-types/{name}?version=1").json()["schema"] == AMOUNT
    assert platform.get(f"/v1/event-types/{name}?version=3").status_code == 404


def test_two_who_add_versions_at_once_make_one_each(platform, operator, name):
    def add(minimum):
        put(Caller(platform.token), name, {"minimum": minimum})
        connections.close_all()

    threads = [threading.Thread(target=add, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row[0] for row in rows_of(operator, name)] == [1, 2, 3, 4, 5, 6]


def test_changes_are_audited(platform, operator, name):
    put(platform, name, AMOUNT)
    put(platform, name, AMOUNT)
    put(platform, name, AMOUNT, description="x")
    platform.call("DELETE", f"/v1/event-types/{name}")
    entries = operator.execute(
        "select action, actor from tenants_auditentry where target = %s order by at, id",
        [f"event_type:{name}"],
    ).fetchall()
    actor = f"platform_key:{prefix_of(platform.token)}"
    assert entries == [
        ("event_type.added", actor),
        ("event_type.changed", actor),
        ("event_type.archived", actor),
    ]


def test_a_tenants_key_changes_nothing(platform, caller, operator, name):
    assert put(caller, name, AMOUNT).json()["code"] == "missing_scope"
    put(platform, name, AMOUNT)
    refused = caller.call("DELETE", f"/v1/event-types/{name}")
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    lesser = Caller(platform_key("events:read"))
    assert put(lesser, name, None).status_code == 403
    assert rows_of(operator, name) == [(1, AMOUNT, False)]


@pytest.mark.other_guard
@pytest.mark.parametrize(
    "attack",
    [
        "insert into webhooks_eventtype (name, version, description, created_at)"
        " values (%s, 1, '', now())",
        "update webhooks_eventtype set schema = null where name = %s",
        "delete from webhooks_eventtype where name = %s",
        "select slipway.platform_put_event_type('aaaaaaaaaaaa', '\\x00', %s, '', null)",
        "select slipway.platform_archive_event_type('aaaaaaaaaaaa', '\\x00', %s)",
    ],
)
def test_injected_sql_changes_nothing(platform, tenant, operator, name, attack):
    put(platform, name, AMOUNT)
    with tenant_context(tenant.ref), pytest.raises(ProgrammingError), transaction.atomic():
        connections["default"].cursor().execute(attack, [name])
    assert rows_of(operator, name) == [(1, AMOUNT, False)]


@pytest.mark.parametrize("name", sorted(catalogue.BUILT_IN))
def test_what_is_built_in_is_listed_and_cannot_be_changed(platform, operator, name):
    assert platform.get(f"/v1/event-types/{name}").json()["built_in"] is True
    assert put(platform, name, None).json()["code"] == "built_in_event_type"
    assert platform.call("DELETE", f"/v1/event-types/{name}").status_code == 409
    assert rows_of(operator, name) == []


def test_an_archived_type_is_published_no_more_until_it_is_put_back(
    platform, caller, operator, name
):
    put(platform, name, AMOUNT)
    assert platform.call("DELETE", f"/v1/event-types/{name}").status_code == 204
    assert platform.call("DELETE", f"/v1/event-types/{name}").status_code == 204
    refused = caller.publish(type=name, data={"amount": 1})
    assert pointers(refused) == [("/type", "archived_event_type")]
    assert caller.get(f"/v1/event-types/{name}").json()["archived_at"] is not None
    assert put(platform, name, AMOUNT).status_code == 200
    assert caller.publish(type=name, data={"amount": 1}).status_code == 202
    missing = platform.call("DELETE", "/v1/event-types/nobody.knows")
    assert (missing.status_code, missing.json()["code"]) == (404, "event_type_not_found")


def test_the_list_has_each_type_once_by_name_page_by_page(platform, caller, name):
    put(platform, name, AMOUNT)
    put(platform, name, {"type": "object"})
    seen, cursor = [], ""
    while True:
        page = caller.get(f"/v1/event-types?limit=3{cursor}").json()
        seen += [(each["name"], each["version"]) for each in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    names = [each for each, _ in seen]
    assert names == sorted(set(names))
    assert (name, 2) in seen
    assert set(catalogue.BUILT_IN) <= set(names)


# ---- Which schemas are taken ----


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "obiect"}, [("/schema/type", "invalid_schema")]),
        ({"minimum": "1"}, [("/schema/minimum", "invalid_schema")]),
        ({"$ref": "https://example.com/a.json"}, [("/schema/$ref", "remote_reference")]),
        ({"items": {"$ref": "file:///etc/passwd"}}, [("/schema/items/$ref", "remote_reference")]),
        ({"$dynamicRef": "a.json"}, [("/schema/$dynamicRef", "remote_reference")]),
        ({"$ref": "#/$defs/none"}, [("/schema/$ref", "dangling_reference")]),
        ({"$schema": "http://a.example/"}, [("/schema/$schema", "unknown_dialect")]),
        ({"$id": "https://example.com/"}, [("/schema/$id", "no_id")]),
        ({"not": {"a/b": {"pattern": "a+"}}}, [("/schema/not/a~1b/pattern", "no_expressions")]),
        ({"patternProperties": {"x": True}}, [("/schema/patternProperties", "no_expressions")]),
        ({"description": "x" * 33_000}, [("/schema", "too_long")]),
    ],
)  # fmt: skip
def test_it_refuses_a_schema_that_it_cannot_keep_to(platform, operator, name, schema, found):
    refused = put(platform, name, schema)
    assert refused.status_code == 400
    assert pointers(refused) == found
    assert rows_of(operator, name) == []


def test_a_property_may_be_called_as_a_keyword_is(platform, name):
    schema = {"properties": {"pattern": {"type": "string"}, "$ref": {}}, "enum": [{"pattern": 1}]}
    assert put(platform, name, schema).status_code == 201


def deep(levels: int) -> dict:
    schema: dict = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def test_a_schema_nests_so_deep_and_no_deeper():
    schemas.check(deep(schemas.DEPTH_LIMIT - 1))
    with pytest.raises(InvalidSchema):
        schemas.check(deep(schemas.DEPTH_LIMIT))


# ---- Events keep to them ----


def test_every_violation_is_told_with_its_pointer_and_nothing_is_published(
    platform, caller, tenant, operator, name
):
    put(platform, name, AMOUNT)
    refused = caller.publish(type=name, data={"amount": 0, "to": {"age": 3}, "odd": 1})
    assert refused.status_code == 400
    assert sorted(pointers(refused)) == [
        ("/data", "schema_additional_properties"),
        ("/data/amount", "schema_minimum"),
        ("/data/to", "schema_required"),
    ]
    assert pointers(caller.publish_batch({"type": name, "data": {"amount": "x"}})) == [
        ("/events/0/data/amount", "schema_type")
    ]
    with tenant_context(tenant.ref):
        assert not Event.objects.exists()
    taken = caller.publish(type=name, data={"amount": 3, "to": {"name": "A"}})
    assert (taken.status_code, taken.json()["version"]) == (202, 1)


def test_it_validates_against_the_latest_version_unless_one_is_named(platform, caller, name):
    put(platform, name, AMOUNT)
    put(platform, name, {"required": ["total"]})
    assert caller.publish(type=name, data={"amount": 3}).status_code == 400
    named = caller.publish(type=name, data={"amount": 3}, version=1)
    assert (named.status_code, named.json()["version"]) == (202, 1)
    assert caller.publish(type=name, data={"total": 3}).json()["version"] == 2
    assert pointers(caller.publish(type=name, data={}, version=3)) == [
        ("/version", "unknown_version")
    ]


def test_code_that_publishes_is_held_to_the_schema_too(platform, tenant, name):
    put(platform, name, AMOUNT)
    with pytest.raises(InvalidEvent):
        publish_in(tenant, type=name, payload={})
    assert publish_in(tenant, type=name, payload={"amount": 1}).version == 1


def test_unknown_types_pass_unless_only_the_catalogue_does(platform, caller, settings, name):
    assert caller.publish(type=name).status_code == 202
    webhooks = settings.SLIPWAY["WEBHOOKS"] | {"catalogue_only": True}
    settings.SLIPWAY = settings.SLIPWAY | {"WEBHOOKS": webhooks}
    assert pointers(caller.publish(type=name)) == [("/type", "unknown_event_type")]
    put(platform, name)
    assert caller.publish(type=name).status_code == 202


def test_a_project_adds_types_in_its_code(platform, caller, settings):
    added = {"invoice.sent": {"description": "Sent.", "schema": {"required": ["to"]}}}
    settings.SLIPWAY = settings.SLIPWAY | {"EVENT_TYPES": added}
    assert platform.get("/v1/event-types/invoice.sent").json()["description"] == "Sent."
    assert put(platform, "invoice.sent").status_code == 409
    assert caller.publish(type="invoice.sent").status_code == 400
    assert caller.publish(type="invoice.sent", data={"to": "me"}).status_code == 202


# ---- What a schema cannot do to us ----


def flaws(schema, data) -> list[str]:
    validator = schemas.validator(uuid.uuid4().hex, 1, orjson.dumps(schema))
    return [error.code for error in schemas.flaws(validator, data, pointer="/data")]


def test_references_are_followed_so_often_and_no_oftener():
    bomb: dict = {"$ref": "#/$defs/d0", "$defs": {}}
    for level in range(40):
        both = {"$ref": f"#/$defs/d{level + 1}"}
        bomb["$defs"][f"d{level}"] = {"allOf": [both, both]}
    bomb["$defs"]["d40"] = True
    assert flaws(bomb, {}) == ["schema_too_costly"]
    assert flaws({"$ref": "#"}, {}) == ["schema_too_costly"]


def test_a_reference_into_a_default_value_runs_no_expression():
    schema = {"properties": {"a": {"$ref": "#/default"}}, "default": {"pattern": "(a+)+$"}}
    schemas.check(schema)
    assert flaws(schema, {"a": "a" * 40 + "!"}) == ["schema_too_costly"]


def test_a_tree_of_data_may_be_described_by_itself():
    tree = {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert flaws(tree, {"children": [{"children": []}] * 500}) == []
    assert flaws(tree, {"children": [{"children": [{"children": 1}]}]}) == ["schema_type"]


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 2], True),
        ([1, 1.0], False),
        ([1, True], True),
        ([{"a": [1]}, {"a": [1]}], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([[], {}, None, "", 0, False], True),
        ([{"n": n} for n in range(20_000)], True),  # Compared each with each, this takes minutes.
    ],
)
def test_unique_items_are_told_apart_in_one_pass(items, unique):
    assert flaws({"uniqueItems": True}, items) == ([] if unique else ["schema_unique_items"])


def test_a_thousand_errors_are_told_as_twenty():
    many = flaws({"items": {"type": "string"}}, list(range(1000)))
    assert many == ["schema_type"] * schemas.MOST_ERRORS
