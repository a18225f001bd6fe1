"""Every list and every page of the console: it opens, reads only, and asks little."""

import re
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from config.admin.reading import ReadOnlyAdmin
from tests.conftest import create_tenant
from tests.console.acting import Signed
from tests.console.operators import OPERATOR, asked, everything, shown, signed_in

OURS = {
    "config", "tenants", "jobs", "webhooks", "onboarding", "campaigns", "lifecycle", "console",
}  # fmt: skip
LISTS = sorted(
    f"{model._meta.app_label}/{model._meta.model_name}"
    for model, of in admin.site._registry.items()
    if isinstance(of, ReadOnlyAdmin) and model._meta.app_label in OURS
)
SECRET = re.compile(r"secret_hash|password|kept-encrypted|key_digest|fingerprint|credentials")
MOST_ASKED = 30  # Statements for a page, with what the session and the navigation ask.


@pytest.fixture(scope="module")
def console(django_db_blocker):
    return signed_in()


@pytest.fixture(scope="module")
def rows(django_db_blocker):
    return everything(create_tenant())


def test_every_list_that_the_issue_names_is_there(rows):
    assert set(rows) <= set(LISTS)


@pytest.mark.parametrize("path", LISTS)
def test_a_list_opens_and_neither_counts_nor_skips(console, rows, path):
    statements = asked(console, f"{path}/")
    table = path.replace("/", "_")
    mine = [sql for sql in statements if f'FROM "{table}"' in sql]
    assert mine
    assert not any("COUNT(" in sql or "OFFSET" in sql or "DISTINCT" in sql for sql in mine)
    assert all("LIMIT" in sql for sql in mine if "IN (" not in sql)


@pytest.mark.parametrize("path", LISTS)
def test_a_page_opens_asks_little_and_shows_no_secret_and_no_form(console, rows, path):
    row = rows[path]
    page = f"{path}/{admin.site._registry[type(row)].address(row)}"
    with CaptureQueriesContext(connections[OPERATOR]) as captured:
        content = shown(console, f"{page}/change/").partition('id="content-main"')[2]
    assert content
    assert not SECRET.search(content), SECRET.search(content)
    assert 'name="_save"' not in content
    assert len(captured) <= MOST_ASKED, [query["sql"] for query in captured]


@pytest.mark.thorough
@pytest.mark.parametrize("path", LISTS)
def test_nothing_is_added_changed_or_deleted_by_hand(console, rows, path):
    row = rows[path]
    page = f"/console/{path}/{admin.site._registry[type(row)].address(row)}"
    assert console.get(f"{page}/delete/").status_code == 403
    assert console.get(f"/console/{path}/add/").status_code == 403
    columns = type(row).objects.using(OPERATOR).filter(pk=row.pk).values()
    before = list(columns.all())
    said = {name: "9" for name in before[0] if name != "id"}
    console.post(f"{page}/change/", f"/console/{path}/", **said)
    assert list(columns.all()) == before


@pytest.mark.thorough
@pytest.mark.parametrize("path", LISTS)
def test_each_filter_is_one_that_can_be_chosen(console, rows, path):
    html = shown(console, f"{path}/")
    links = re.findall(r'<li[^>]*>\s*<a href="(\?[^"]+)">', html)
    for link in sorted(set(map(unescape, links)))[:12]:
        shown(console, f"{path}/{link}")


# ---- What a list may be asked ----

REFUSED = (IncorrectLookupParameters, DisallowedModelAdminLookup)
ASKED_AFTER = ("", "__startswith", "__regex", "__isnull", "__gt", "__sub__key")
EVERY = {f"{model._meta.label_lower}": of for model, of in admin.site._registry.items()}


def declared(of: ReadOnlyAdmin) -> set[str]:
    """The parameters that the list's own filters have."""
    request = RequestFactory().get("/")
    return {spec.parameter_name for spec in of.get_list_filter(request)}


@pytest.fixture(scope="module")
def viewer(django_db_blocker):
    return Signed("viewer")


@pytest.mark.parametrize("label", sorted(EVERY))
def test_a_list_is_asked_by_its_own_filters_alone(viewer, label):
    """Else a viewer could read a column that is hidden, one letter after another."""
    of = EVERY[label]
    columns = [field.name for field in of.opts.get_fields() if field.concrete]
    related = [f"{field.name}__pk" for field in of.opts.get_fields() if field.is_relation]
    asked_after = [
        f"{name}{way}"
        for name in {*columns, *related, *(f"{name}_id" for name in columns), "pk", "nonsense"}
        for way in ASKED_AFTER
    ]
    for name in sorted(set(asked_after) - declared(of)):
        request = RequestFactory().get("/", {name: "a"})
        request.user = viewer.user
        with pytest.raises(REFUSED):
            of.get_changelist_instance(request)


@pytest.mark.parametrize(
    "path",
    [
        "tenants/user/?password__startswith=a",
        "webhooks/endpoint/?url__startswith=h",
        "tenants/apikey/?secret_hash__regex=.",
        "campaigns/message/?phone__startswith=%2B",
        "campaigns/provideraccount/?credentials__gt=a",
        "jobs/attempt/?request__headers__isnull=False",
        "tenants/membership/?user__password__startswith=a",
        "jobs/job/?id=1",
    ],
)
def test_a_viewer_who_asks_after_what_is_hidden_is_told_so_and_sees_no_row(viewer, rows, path):
    answer = viewer.browser.get(f"/console/{path}")
    if answer.status_code == 302:
        answer = viewer.browser.get(answer["Location"])
        assert "a filter that this list does not have" in answer.content.decode()
    assert answer.status_code == 400
    assert "/change/" not in answer.content.decode().partition('id="content-main"')[2]


def test_an_archive_is_offered_to_those_alone_who_may_take_it(viewer, rows):
    row = rows["lifecycle/export"]
    url = f"/console/lifecycle/export/{row.pk}"
    for page in ("/console/lifecycle/export/", f"{url}/change/"):
        assert "Download" not in viewer.html(page)
        assert "Download" in Signed("administrator").html(page)
    assert viewer.get(f"/console/lifecycle/export/{row.pk}/file/").status_code == 403


def test_an_archive_whose_file_is_gone_is_said_to_be(rows):
    url = f"/console/lifecycle/export/{rows['lifecycle/export'].pk}/file/"
    answer = Signed("administrator").get(url)
    assert answer.status_code == 404
    assert "not in the storage any more" in answer.content.decode()
