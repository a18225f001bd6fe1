"""Headers and URL buttons with variables: declared by a template, asked for, and sent apart."""

import json
from importlib import import_module
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.db import connection, connections

from campaigns import parts
from campaigns.errors import InvalidTest
from campaigns.models import Campaign, Skip, Template
from campaigns.parts import Parts
from campaigns.providers import Account, Outgoing, http, whatsapp_cloud
from campaigns.templates import PARTS
from campaigns.variables import CannotRender
from campaigns.wishes import FollowUp
from config.ids import uuid7
from jobs.outcomes import Succeeded
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.campaigns.desk import Desk, pointers
from tests.campaigns.posting import send

SHIPPED = {
    "name": "Shipped",
    "text": "Hello {{ name }},\nit is on its way.",
    "header": "Order {{ order }}",
    "buttons": [{"index": 1, "url": "https://shop.example/orders/{{ code }}"}],
    "external_name": "shipped",
}
SOURCES = {
    "name": {"field": "name"},
    "order": {"field": "attributes.order"},
    "code": {"field": "attributes.code"},
}
ID = UUID("01890000-0000-7000-8000-000000000001")


def whatsapp(**options):
    base = "https://graph.facebook.com"
    credentials = {"access_token": "EAAG"}
    return Account(ID, "whatsapp_cloud", base, "123456789", credentials, options)


def outgoing(**fields):
    made = {
        "message_id": ID,
        "phone": "+4930123456",
        "text": "Order 7 and so on",
        "params": {"name": "Ada", "order": "7\n of 8", "code": "a b/ü%20"},
        "variables": ("name",),
        "header": ("order",),
        "buttons": {1: "code"},
        "external_name": "shipped",
    }
    return Outgoing(**(made | fields))


# ---- Templates ----


def test_a_template_keeps_its_header_and_its_buttons_beside_its_text(desks):
    made = desks.made("/templates", SHIPPED)
    for name in ("text", "header", "buttons"):
        assert made[name] == SHIPPED[name]
    assert made["variables"] == ["order", "name", "code"]
    path = f"/templates/{made['id']}"
    assert desks.get(path).json() == made
    changed = desks.patch(path, {"text": "Bye {{ name }}."}).json()
    assert (changed["header"], changed["buttons"]) == (SHIPPED["header"], SHIPPED["buttons"])
    bare = desks.patch(path, {"header": "", "buttons": []}).json()
    assert (bare["text"], bare["header"], bare["buttons"]) == ("Bye {{ name }}.", "", [])
    assert bare["variables"] == ["name"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"header": "{{ a }} and {{ b }}"}, "/header"),
        ({"header": "{{ first name }}"}, "/header"),
        ({"header": "x" * 61}, "/header"),
        ({"header": "two\nlines"}, "/header"),
        ({"buttons": [{"index": 0, "url": "https://shop.example/{{ a }}/b"}]}, "/buttons/0/url"),
        ({"buttons": [{"index": 0, "url": "javascript:alert(1)"}]}, "/buttons/0/url"),
        ({"buttons": [{"index": 0, "url": "https://a.example/\n{{ a }}"}]}, "/buttons/0/url"),
        ({"buttons": [{"index": 10, "url": "https://a.example/"}]}, "/buttons/0/index"),
        (
            {"buttons": [{"index": 3, "url": f"https://a.example/{n}"} for n in range(2)]},
            "/buttons/1/index",
        ),
    ],
)
def test_it_refuses_parts_that_cannot_be_with_the_place(desk, fields, pointer):
    assert pointers(desk.post("/templates", SHIPPED | fields)) == [pointer]


def test_all_parts_together_are_no_longer_than_a_text_may_be(desk):
    made = desk.made("/templates", SHIPPED | {"text": "x" * 4000})
    urls = [{"index": 0, "url": "https://a.example/" + "x" * 100}]
    assert pointers(desk.patch(f"/templates/{made['id']}", {"buttons": urls})) == ["/text"]


@pytest.mark.parametrize(
    "whole",
    [
        Parts("Hello"),
        Parts("Hello\n\nyou", "Header"),
        Parts("a\n", "", {0: "https://a.example/{{ b }}", 9: "https://c.example"}),
        Parts("{{ a }}", "{{ b }}", {2: "https://c.example/{{ d }}"}),
    ],
)
def test_what_is_kept_is_read_as_it_was_said(whole):
    assert parts.read(json.loads(json.dumps(whole.as_json()))) == whole


def test_what_there_is_none_of_is_not_kept_beside_the_text():
    assert Parts("Hello").as_json() == {"text": "Hello"}


def test_a_text_is_kept_as_it_was_said_whatever_it_looks_like(desks):
    text = "{% header %}Hello\n{% body %}you\n{% button 0 %}https://shop.example"
    made = desks.made("/templates", {"name": "Marked", "text": text})
    assert (made["text"], made["header"], made["buttons"]) == (text, "", [])


def test_the_trail_names_the_parts_that_were_changed(desk):
    made = desk.made("/templates", SHIPPED)
    desk.patch(f"/templates/{made['id']}", {"header": "Yours", "buttons": []})
    entries = AuditEntry.objects.using("operator").filter(tenant_id=desk.tenant.pk)
    assert entries.get(action="template.changed").after["changed"] == ["buttons", "header"]


def test_who_knows_of_no_parts_makes_templates_without(desk):
    """As a process of the version before does, while the next one is rolled out."""
    id = uuid7()
    with tenant_context(desk.tenant), connection.cursor() as cursor:
        cursor.execute(
            "insert into campaigns_template (tenant_id, id, name, text, external_name, language)"
            " values (%s, %s, 'Hello', 'Hello {{ name }}', '', 'en')",
            [desk.tenant.id, id],
        )
    made = desk.get(f"/templates/tpl_{id}").json()
    assert (made["text"], made["header"], made["buttons"]) == ("Hello {{ name }}", "", [])


def test_one_customer_would_read_all_parts_as_paragraphs(desk):
    made = desk.made("/templates", SHIPPED)
    whole, part = desk.add(
        {"name": "Ada", "attributes": {"order": "7", "code": "x y"}}, {"name": "Bob"}
    )
    path = f"/templates/{made['id']}/render"
    said = desk.post(path, {"customer_id": f"cus_{whole.pk}", "variables": SOURCES}).json()
    assert said["text"] == (
        "Order 7\n\nHello Ada,\nit is on its way.\n\nhttps://shop.example/orders/x%20y"
    )
    said = desk.post(path, {"customer_id": f"cus_{part.pk}", "variables": SOURCES}).json()
    assert (said["text"], said["missing"]) == (None, "order")


def test_parts_that_grow_too_long_in_urls_are_not_sent():
    long = Parts("x" * 3000, "", {0: "https://a.example/{{ a }}"})
    with pytest.raises(CannotRender):
        parts.render(long, {"a": "ü" * 900})


# ---- Campaigns ----


def test_a_campaign_is_refused_where_the_source_of_a_headers_or_buttons_variable_is_missing(
    workshop, client
):
    desk = Desk(client, workshop.tenant)
    made = desk.made("/templates", SHIPPED)
    body = {
        "name": "Spring", "account_id": f"acc_{workshop.account.pk}", "filter": {"all": []},
        "template_id": made["id"], "variables": {"name": {"field": "name"}},
    }  # fmt: skip
    refused = desk.post("/campaigns", body)
    assert pointers(refused) == ["/variables/order", "/variables/code"]
    taken = desk.made("/campaigns", body | {"variables": SOURCES})
    workshop.work()
    content = desk.get(f"/campaigns/{taken['id']}").json()["content"]
    assert (content["text"], content["header"]) == (SHIPPED["text"], SHIPPED["header"])
    assert content["buttons"] == SHIPPED["buttons"]


def test_its_follow_up_and_its_test_have_all_parts_too(workshop, client, clock):
    made = Desk(client, workshop.tenant).made("/templates", SHIPPED)
    template_id = UUID(made["id"].removeprefix("tpl_"))
    sources = {name: {"value": name} for name in SOURCES}
    later = FollowUp(after=7200, template_id=template_id, variables=sources)
    campaign = workshop.running(1, follow_up=later)
    workshop.send(Succeeded())
    workshop.work()
    clock.pass_(hours=3)
    workshop.work()
    child = Campaign.objects.using("operator").get(parent_id=campaign.pk)
    assert {name: child.content[name] for name in PARTS} == {name: SHIPPED[name] for name in PARTS}
    (message,) = workshop.messages(child)
    assert message.params == {name: name for name in SOURCES}
    with pytest.raises(InvalidTest) as refused:
        workshop.do("test_send", child, phone="+4930901820", params={"name": "Ada"})
    assert [error.pointer for error in refused.value.errors] == ["/params/order", "/params/code"]


def test_a_generator_may_say_them_and_is_held_to_the_same_rules(workshop, settings):
    own = {name: f"tests.campaigns.generators.{name}" for name in ("framed", "crooked")}
    settings.SLIPWAY = settings.SLIPWAY | {"GENERATORS": own}
    workshop.add_many(1)
    wanted = {"template_id": None, "brief": {}, "variables": SOURCES | {"order": {"value": "7"}}}
    whole, crooked = (workshop.create(generator=name, **wanted) for name in own)
    workshop.work()
    assert workshop.fresh(whole).content == {
        "text": "Dear {{ name }}", "header": "Order {{ order }}",
        "buttons": [{"index": 2, "url": "https://shop.example/{{ order }}"}],
        "external_name": "", "language": "en",
    }  # fmt: skip
    assert workshop.fresh(crooked).state == "failed"
    assert "/buttons/0/url" in workshop.fresh(crooked).reason


def test_who_lacks_what_a_header_or_button_says_is_skipped_with_the_reason(workshops, client):
    desk = Desk(client, workshops.tenant)
    made = desk.made("/templates", SHIPPED)
    every = {"phone": "+4930100001", "consent": "given", "name": "Ada"}
    workshops.add(
        every | {"attributes": {"order": "7", "code": "x"}},
        every | {"phone": "+4930100002", "attributes": {"order": "7", "code": " "}},
        every | {"phone": "+4930100003", "attributes": {"code": "x"}},
    )
    campaign = workshops.create(
        template_id=UUID(made["id"].removeprefix("tpl_")), variables=SOURCES
    )
    workshops.work()
    (message,) = workshops.messages(campaign)
    assert message.params == {"name": "Ada", "order": "7", "code": "x"}
    skips = Skip.objects.using("operator").filter(campaign_id=campaign.pk)
    assert sorted(skips.values_list("reason", "detail")) == [
        ("missing_variable", "code"), ("missing_variable", "order"),
    ]  # fmt: skip
    workshops.send(Succeeded())
    assert workshops.counters(campaign)["sent"] == 1


# ---- Providers ----


def test_whatsapp_is_given_header_body_and_button_each_as_a_component():
    template = json.loads(whatsapp_cloud.PROVIDER.request(whatsapp(), outgoing()).body)["template"]
    assert template["components"] == [
        {"type": "header", "parameters": [{"type": "text", "text": "7 of 8"}]},
        {"type": "body", "parameters": [{"type": "text", "text": "Ada"}]},
        {
            "type": "button",
            "sub_type": "url",
            "index": "1",
            "parameters": [{"type": "text", "text": "a%20b/%C3%BC%20"}],
        },
    ]


def test_whatsapp_names_the_headers_parameter_where_templates_have_names_and_no_buttons():
    request = whatsapp_cloud.PROVIDER.request(whatsapp(parameters="named"), outgoing())
    header, body, button = json.loads(request.body)["template"]["components"]
    assert header["parameters"][0]["parameter_name"] == "order"
    assert body["parameters"][0]["parameter_name"] == "name"
    assert "parameter_name" not in button["parameters"][0]


def test_parts_without_variables_are_no_components():
    plain = outgoing(variables=(), header=(), buttons={})
    request = whatsapp_cloud.PROVIDER.request(whatsapp(), plain)
    assert "components" not in json.loads(request.body)["template"]


def test_any_api_may_be_given_the_parts_apart():
    body = {"to": "{phone}", "head": "{header_list}", "links": "{button_list}"}
    options = {"path": "/m", "body": body, "verify": {"path": "/me"}}
    account = Account(ID, "http", "https://api.example", "s", {}, options)
    assert not list(http.PROVIDER.flaws(account))
    sent = json.loads(http.PROVIDER.request(account, outgoing()).body)
    assert sent["head"] == ["7\n of 8"]
    assert sent["links"] == [{"index": 1, "value": "a%20b/%C3%BC%20"}]


def test_the_sandbox_takes_them_and_writes_them_down(post):
    kept = {name: SHIPPED[name] for name in ("text", "header", "buttons", "external_name")}
    content = kept | {"language": "en"}
    mailing = post.mailing(content=content)
    params = {"name": "Ada", "order": "7", "code": "x y"}
    type(mailing.message).objects.using("operator").filter(pk=mailing.message.pk).update(
        params=params
    )
    send(mailing, lambda: mailing.all_are("succeeded"))
    (line,) = post.sandbox.lines(mailing.account.sender)
    assert (line["header"], line["buttons"]) == ({"order": "7"}, {"1": "x%20y"})


# ---- What was kept before the parts had columns ----

MARKED = (
    "{% header %}Order {{ order }}\n{% body %}Hello {{ name }},\n{% on its way.\n"
    "{% button 1 %}https://shop.example/orders/{{ code }}"
)
APART = {
    "text": "Hello {{ name }},\n{% on its way.",
    "header": "Order {{ order }}",
    "buttons": [{"index": 1, "url": "https://shop.example/orders/{{ code }}"}],
}


def test_a_migration_takes_apart_what_was_kept_as_one_text(workshop):
    migration = import_module("campaigns.migrations.0005_template_parts")
    with tenant_context(workshop.tenant):
        template = Template.objects.create(name="old", text=MARKED)
        plain = Template.objects.create(name="plain", text="{% header %} is no mark alone")
    campaign = workshop.create()
    frozen = {"text": MARKED, "external_name": "", "language": "en"}
    owned = Campaign.objects.using("owner").filter(pk=campaign.pk)
    owned.update(
        content=frozen, brief={"template": frozen}, follow_up={"template": frozen, "after": 1}
    )
    migration.take_apart(None, SimpleNamespace(connection=connections["owner"]))
    now, told = owned.get(), {"external_name": "", "language": "en"}
    assert now.content == APART | told
    assert now.brief == {"template": APART | told}
    assert now.follow_up == {"template": APART | told, "after": 1}
    kept = Template.objects.using("owner").in_bulk([template.pk, plain.pk])
    assert kept[template.pk].parts.as_json() == APART
    assert kept[plain.pk].parts == Parts("{% header %} is no mark alone")
