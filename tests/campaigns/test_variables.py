"""Variables: nothing is sent with a gap in it, and nothing is run that a customer's name says."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection

from campaigns import variables
from campaigns.errors import InvalidTemplate, InvalidVariables
from campaigns.variables import CannotRender
from tenants.context import tenant_context
from tests.campaigns.desk import Desk


def said(tenant, mapping, text=None, **more):
    """External id → (what the variables say, why there is no message)."""
    made = variables.expression(mapping, text=text, **more)
    with tenant_context(tenant), connection.cursor() as cursor:
        cursor.execute(
            f"select c.external_id, {made.params}, {made.missing}"
            " from customers_customer c where c.tenant_id = %(tenant)s",
            {"tenant": tenant.pk, **made.values},
        )
        return {row[0]: (json.loads(row[1]), row[2]) for row in cursor.fetchall()}


def places(error):
    return [each.pointer for each in error.value.errors]


def test_it_finds_the_variables_of_a_text():
    assert variables.names("{{b}} {{ a }} {{\tb }} {{ 1 }}") == ["b", "a", "1"]
    assert variables.names("Nothing, {really}.") == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Hello {{ first name }}", "line 1, column 7"),
        ("Hello\n  {{name}", "line 2, column 3"),
        ("Hello name}}", "line 1, column 11"),
        ("Hello {{ naïve }}", "line 1, column 7"),
        ("Hello {name}", "line 1, column 7"),
        ("Hello {{ user.name }}", "line 1, column 7"),
        ("Hello {{{name}}}", "line 1"),
        ("{{}}", "line 1, column 1"),
        ("{{ " + "x" * 51 + " }}", "line 1, column 1"),
    ],
)
def test_braces_that_are_no_variable_are_refused_with_the_place(text, place):
    with pytest.raises(InvalidTemplate) as refused:
        variables.check_text(text)
    assert places(refused) == ["/text"]
    assert place in refused.value.errors[0].message


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u3000\xa0", "x" * 4097, "a\0", "\ud800"])
def test_a_text_that_says_nothing_or_too_much_is_refused(text):
    with pytest.raises(InvalidTemplate):
        variables.check_text(text)


def test_a_text_may_have_braces_of_its_own():
    variables.check_text('A set {1, 2}, a face :-} and {"json": 1}, for {{ name }}.')


@pytest.mark.parametrize(
    ("mapping", "refused"),
    [
        ({}, ["/variables/name"]),
        ({"name": "Ada"}, ["/variables/name"]),
        ({"name": {}}, ["/variables/name"]),
        ({"name": {"field": "nme"}}, ["/variables/name/field"]),
        ({"name": {"field": 3}}, ["/variables/name/field"]),
        ({"name": {"field": "attributes."}}, ["/variables/name/field"]),
        ({"name": {"field": "name", "default": " \u200b"}}, ["/variables/name/default"]),
        ({"name": {"field": "name", "default": 3}}, ["/variables/name/default"]),
        ({"name": {"field": "name", "defult": "x"}}, ["/variables/name/defult"]),
        ({"name": {"field": "name", "value": "x"}}, ["/variables/name"]),
        ({"name": {"value": ""}}, ["/variables/name/value"]),
        ({"name": {"value": "x" * 1025}}, ["/variables/name/value"]),
        ({"name": {"value": "a\nb"}}, ["/variables/name/value"]),
        ({"name": {"value": "\u202egnp"}}, ["/variables/name/value"]),
        ({"name": {"value": "x", "default": "y"}}, ["/variables/name/default"]),
        ({"name": {"value": "x"}, "a/b": {"value": "x"}}, ["/variables/a~1b"]),
        ({f"n{n}": {"value": "x"} for n in range(51)}, ["/variables", "/variables/name"]),
    ],
)
def test_a_variable_without_a_source_is_refused_with_the_place(mapping, refused):
    with pytest.raises(InvalidVariables) as error:
        variables.check("Hello {{ name }}", mapping)
    assert places(error) == refused


def test_sources_that_the_text_does_not_name_are_allowed():
    variables.check("Hello", {"name": {"field": "name", "default": "there"}})


def test_it_renders_what_the_variables_say_and_looks_no_further():
    text = variables.render("Hi {{ a }}, {{b}}! {{ a }}", {"a": "{{ b }}", "b": "$&\\1 %s"})
    assert text == "Hi {{ b }}, $&\\1 %s! {{ b }}"


@pytest.mark.parametrize(
    "params", [{}, {"a": ""}, {"a": " \u200b"}, {"a": None}, {"a": "x" * 4096}]
)
def test_it_renders_no_gap_and_nothing_too_long(params):
    with pytest.raises(CannotRender):
        variables.render("Hi {{ a }}", params)


def test_it_says_each_field_as_a_reader_would_write_it(home, client):
    Desk(client, home).add({
        "external_id": "ada", "name": "  Ada\u3000 ", "lifetime_value": Decimal("1234.5"),
        "last_purchase_at": datetime(2026, 1, 2, 23, 30, tzinfo=UTC),
        "attributes": {"n": 12.5, "i": 3, "t": "\xa0x y ", "o": {"deep": "d"}, "{{ q }}": "'; --"},
    })  # fmt: skip
    mapping = {
        "name": {"field": "name"}, "spent": {"field": "lifetime_value"},
        "last": {"field": "last_purchase_at"}, "n": {"field": "attributes.n"},
        "i": {"field": "attributes.i"}, "t": {"field": "attributes.t"},
        "deep": {"field": "attributes.o.deep"}, "odd": {"field": "attributes.{{ q }}"},
        "day": {"value": "Monday"}, "who": {"field": "email", "default": "you"},
    }  # fmt: skip
    params, missing = said(home, mapping, time_zone="Europe/Zurich")["ada"]
    assert missing is None
    assert params == {
        "name": "Ada", "spent": "1234.50", "last": "2026-01-03", "n": "12.5", "i": "3", "t": "x y",
        "deep": "d", "odd": "'; --", "day": "Monday", "who": "you",
    }  # fmt: skip


@pytest.mark.parametrize(
    "empty",
    [{}, {"a": None}, {"a": ""}, {"a": " \t\u200b\u3000"}, {"a": True}, {"a": ["x"]}, {"a": {}}],
)
def test_what_says_nothing_is_missing_unless_there_is_a_default(home, client, empty):
    Desk(client, home).add({"external_id": "one", "attributes": empty})
    source = {"field": "attributes.a"}
    text = "{{ b }} {{ a }}"
    b = {"b": {"value": "Hi"}}
    assert said(home, b | {"a": source}, text)["one"][1] == "a"
    with_default = said(home, b | {"a": source | {"default": "there"}}, text)
    assert with_default["one"] == ({"b": "Hi", "a": "there"}, None)


def test_it_names_the_first_that_is_missing_as_the_text_has_them(tenant, desk):
    desk.add({"external_id": "one"})
    mapping = {"a": {"field": "name"}, "b": {"field": "email"}}
    assert said(tenant, mapping, "{{ b }} {{ a }}")["one"][1] == "b"
    assert said(tenant, mapping, "{{ a }} {{ b }}")["one"][1] == "a"


def test_what_is_too_long_is_skipped_and_said_to_be(tenant, desk):
    desk.add(
        {"external_id": "short", "attributes": {"a": "x" * 1024}},
        {"external_id": "long", "attributes": {"a": "x" * 1025}},
    )
    mapping = {"a": {"field": "attributes.a"}}
    found = said(tenant, mapping, "{{ a }}")
    assert found["short"][1] is None
    assert found["long"][1] == "a: longer than 1024 characters"
    with_default = {"a": mapping["a"] | {"default": "x"}}
    assert said(tenant, with_default, "{{ a }}")["short"][1] is None
    assert said(tenant, with_default, "{{ a }}")["long"][1] == "a: longer than 1024 characters"
    text = "{{ a }}" * 3 + "y" * 1024
    params, missing = said(tenant, mapping, text)["short"]
    assert missing is None
    assert len(variables.render(text, params)) == 4096
    assert said(tenant, mapping, text + "y")["short"][1] == "text: longer than 4096 characters"


BLANKS = ["", " ", "\u200b\u3000", "\x1f"]


@pytest.mark.parametrize("name", ["Ada", "é", " Ada", "\u200bAda", "阿", *BLANKS])
def test_a_column_that_says_nothing_is_missing_too(tenant, desk, name):
    desk.add({"external_id": "one", "name": name})
    mapping = {"a": {"field": "name"}, "b": {"field": "last_purchase_at"}}
    params, missing = said(tenant, mapping, "{{ a }}")["one"]
    assert missing == ("a" if name in BLANKS else None)
    assert params["a"] == (name.strip("\u200b ") or None if name not in BLANKS else None)
    assert said(tenant, mapping, "{{ b }} {{ a }}")["one"][1] == "b"


def test_a_text_without_variables_needs_none(tenant, desk):
    desk.add({"external_id": "one"})
    assert said(tenant, {"a": {"field": "name"}}, "Hello")["one"] == ({}, None)


def test_hostile_names_and_values_are_only_said(home, client):
    texts = ["' or 1=1 --", "%(tenant)s", "%s", "{0}", "$1", "\\", "'); select 1; --"]
    Desk(client, home).add({"external_id": "one", "attributes": {text: text for text in texts}})
    mapping = {f"v{n}": {"field": f"attributes.{text}"} for n, text in enumerate(texts)}
    mapping |= {f"w{n}": {"value": text} for n, text in enumerate(texts)}
    params, missing = said(home, mapping)["one"]
    assert missing is None
    for n, text in enumerate(texts):
        assert params[f"v{n}"] == params[f"w{n}"] == text
