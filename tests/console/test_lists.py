"""Every list and every page of the console: it opens, reads only, and asks little."""

import re

import pytest
from django.contrib import admin

from config.admin.reading import ReadOnlyAdmin
from tests.conftest import create_tenant
from tests.console.operators import asked, everything, shown, signed_in

OURS = {"config", "tenants", "jobs", "webhooks", "onboarding", "campaigns"}
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
def test_a_page_opens_shows_no_secret_and_has_no_form(console, rows, path):
    row = rows[path]
    of = admin.site._registry[type(row)]
    html = shown(console, f"{path}/{of.address(row)}/change/")
    content = html.partition('id="content-main"')[2]
    assert content
    assert not SECRET.search(content), SECRET.search(content)
    assert 'name="_save"' not in html
    assert console.get(f"/console/{path}/{of.address(row)}/delete/").status_code == 403
    assert console.get(f"/console/{path}/add/").status_code == 403


@pytest.mark.parametrize("path", LISTS)
def test_a_page_asks_a_bounded_number_of_statements(console, rows, path):
    row = rows[path]
    of = admin.site._registry[type(row)]
    statements = asked(console, f"{path}/{of.address(row)}/change/")
    assert len(statements) <= MOST_ASKED, statements


@pytest.mark.parametrize("path", LISTS)
def test_each_filter_is_one_that_can_be_chosen(console, rows, path):
    html = shown(console, f"{path}/")
    links = set(re.findall(r'<li><a href="(\?[^"]+)">|<li>\s*<a href="(\?[^"]+)">', html))
    for link in sorted({one.replace("&amp;", "&") for pair in links for one in pair if one})[:12]:
        shown(console, f"{path}/{link}")
