"""Templates: kept only when every brace is a variable, and tried on a customer."""

import uuid

from tests.campaigns.desk import Desk, pointers

HELLO = {"name": "Hello", "text": "Hello {{ first_name }},\nyour {{ day }} is here."}
VARIABLES = {
    "first_name": {"field": "attributes.first_name", "default": "there"},
    "day": {"value": "Monday"},
}


def test_it_keeps_changes_and_forgets_a_template(desks):
    made = desks.made("/templates", HELLO | {"external_name": "hello_1", "language": "de_CH"})
    assert made["id"].startswith("tpl_")
    assert made["variables"] == ["first_name", "day"]
    assert (made["external_name"], made["language"]) == ("hello_1", "de_CH")
    path = f"/templates/{made['id']}"
    assert desks.get(path).json() == made
    assert desks.get("/templates").json() == {"data": [made], "next_cursor": None}
    changed = desks.patch(path, {"text": "Bye {{ who }}."}).json()
    assert (changed["name"], changed["variables"]) == ("Hello", ["who"])
    assert changed["external_name"] == "hello_1"
    assert desks.delete(path).status_code == 204
    assert desks.get(path).status_code == desks.patch(path, {}).status_code == 404
    assert desks.get("/templates").json()["data"] == []


def test_it_refuses_what_is_no_template_with_the_place(desk):
    def refused(**fields):
        return pointers(desk.post("/templates", HELLO | fields))

    assert refused(text="Hello {{ first name }}") == ["/text"]
    assert refused(text=" \n ") == ["/text"]
    assert refused(text="x" * 4097) == ["/text"]
    assert refused(name=" ") == ["/name"]
    assert refused(name="a\nb") == ["/name"]
    assert refused(language="german?") == ["/language"]
    assert refused(external_name="a\u202eb") == ["/external_name"]
    assert refused(nonsense=1) == ["/nonsense"]
    made = desk.made("/templates", HELLO)
    path = f"/templates/{made['id']}"
    assert pointers(desk.patch(path, {"text": "{{"})) == ["/text"]
    assert desk.get(path).json() == made


def test_a_name_is_taken_until_its_template_is_deleted(desk, other_desk):
    made = desk.made("/templates", HELLO)
    refused = desk.post("/templates", HELLO)
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    other_desk.made("/templates", HELLO)
    desk.delete(f"/templates/{made['id']}")
    desk.made("/templates", HELLO)


def test_a_tenant_has_so_many_templates_and_no_more(desk, settings):
    most = settings.SLIPWAY["CAMPAIGNS"] | {"templates_most": 1}
    settings.SLIPWAY = settings.SLIPWAY | {"CAMPAIGNS": most}
    desk.made("/templates", HELLO)
    refused = desk.post("/templates", HELLO | {"name": "Two"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_templates")


def test_nobody_else_reads_changes_or_deletes_it(desk, other_desk):
    made = desk.made("/templates", HELLO)
    path = f"/templates/{made['id']}"
    assert other_desk.get(path).status_code == 404
    assert other_desk.patch(path, {"name": "Mine"}).status_code == 404
    assert other_desk.delete(path).status_code == 404
    assert other_desk.get("/templates").json()["data"] == []
    assert desk.get(path).json() == made


def test_templates_need_their_scopes(client, tenant):
    reader = Desk(client, tenant, "campaigns:read")
    assert reader.get("/templates").status_code == 200
    assert reader.post("/templates", HELLO).status_code == 403


def test_it_shows_what_a_customer_would_read(desks):
    made = desks.made("/templates", HELLO)
    ada, bob = desks.add({"name": "Ada", "attributes": {"first_name": " Ada "}}, {"name": "Bob"})
    path = f"/templates/{made['id']}/render"

    def read(customer, variables=VARIABLES):
        return desks.post(path, {"customer_id": f"cus_{customer.pk}", "variables": variables})

    assert read(ada).json() == {
        "text": "Hello Ada,\nyour Monday is here.",
        "variables": {"first_name": "Ada", "day": "Monday"},
        "missing": None,
    }
    assert read(bob).json()["text"].startswith("Hello there,")
    bare = VARIABLES | {"first_name": {"field": "attributes.first_name"}}
    assert read(bob, bare).json()["text"] is None
    assert read(bob, bare).json()["missing"] == "first_name"
    assert pointers(read(bob, {}), "invalid_variables") == [
        "/variables/first_name", "/variables/day"
    ]  # fmt: skip


def test_it_shows_customers_only_to_who_may_read_them(client, desk, other_desk):
    made = desk.made("/templates", HELLO)
    (ada,) = desk.add({"name": "Ada"})
    (theirs,) = other_desk.add({"name": "Eve"})
    path = f"/templates/{made['id']}/render"
    wish = {"customer_id": f"cus_{ada.pk}", "variables": VARIABLES}
    assert desk.post(path, wish).status_code == 200
    reader = Desk(client, desk.tenant, "campaigns:read")
    assert reader.post(path, wish).json()["code"] == "missing_scope"
    for id in (theirs.pk, uuid.uuid4()):
        absent = desk.post(path, wish | {"customer_id": f"cus_{id}"})
        assert (absent.status_code, absent.json()["code"]) == (404, "customer_not_found")


def test_the_audit_trail_says_who_changed_a_template(desk, operator):
    made = desk.made("/templates", HELLO)
    desk.patch(f"/templates/{made['id']}", {"text": "Bye."})
    desk.delete(f"/templates/{made['id']}")
    entries = operator.execute(
        "select action, after -> 'changed' from tenants_auditentry"
        " where tenant_id = %s and action like 'template.%%' order by at",
        [desk.tenant.pk],
    ).fetchall()
    assert entries == [
        ("template.created", None), ("template.changed", ["text"]), ("template.deleted", None)
    ]  # fmt: skip
