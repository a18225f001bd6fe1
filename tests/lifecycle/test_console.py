"""What the console shows of archives and closings."""

import io
import zipfile

from lifecycle import closing, exporting
from lifecycle.models import Closure, Export
from tenants.models import AuditEntry
from tests.console.acting import Signed, act_url
from tests.console.operators import shown, signed_in
from tests.lifecycle import residents
from tests.people import Browser, make_user

OPERATOR = "operator"


def archive_of(tenant, engine) -> Export:
    exporting.begin(tenant_id=tenant.pk, actor="system:test", reason="Moves away.")
    residents.work(engine, exporting.KIND)
    return Export.objects.using(OPERATOR).get(tenant_id=tenant.pk)


def test_an_archive_is_taken_from_its_page(tenant, engine):
    found, browser = archive_of(tenant, engine), signed_in()
    path = f"lifecycle/export/{found.pk}/file/"
    assert f"/console/{path}" in shown(browser, f"lifecycle/export/{found.pk}/change/")
    assert tenant.slug in shown(browser, "lifecycle/export/")
    answer = browser.get(f"/console/{path}")
    body = b"".join(answer.streaming_content)
    assert "manifest.json" in zipfile.ZipFile(io.BytesIO(body)).namelist()
    trail = AuditEntry.objects.using(OPERATOR).filter(tenant_id=tenant.pk)
    assert trail.get(action="tenant.export_taken").actor.startswith("operator:")


def test_a_stranger_takes_none(tenant, engine):
    found = archive_of(tenant, engine)
    browser = Browser()
    make_user(tenant)
    answer = browser.get(f"/console/lifecycle/export/{found.pk}/file/")
    assert answer.status_code in (302, 404)


def test_closing_asks_for_the_slug_once_more(tenant):
    """Nothing brings it back once its grace is over."""
    administrator = Signed("administrator")
    url = act_url(tenant, "close")
    answer = administrator.confirm(url, reason="Asked.", slug="another")
    assert not Closure.objects.using(OPERATOR).filter(tenant_id=tenant.pk).exists()
    assert "nothing was changed" in administrator.html(answer["Location"])
    administrator.confirm(url, reason="Asked.", slug=tenant.slug)
    assert Closure.objects.using(OPERATOR).filter(tenant_id=tenant.pk).exists()


def test_a_closing_is_shown(tenant):
    closing.close(tenant_id=tenant.pk, actor="system:test", reason="Asked, ticket 812.")
    found = Closure.objects.using(OPERATOR).get(tenant_id=tenant.pk)
    browser = signed_in()
    assert "ticket 812" in shown(browser, "lifecycle/closure/")
    assert "ticket 812" in shown(browser, f"lifecycle/closure/{found.pk}/change/")
