"""How wide the console's pages are: nothing is scrolled sideways but what has a box of its own."""

from uuid import uuid4

import pytest
from django.utils import timezone

from jobs.models import Attempt, DeadLetter, Drainer, Job, Lane
from tests.chromium import launched
from tests.conftest import create_tenant
from tests.console.acting import act_url
from tests.console.operators import OPERATOR, everything
from tests.console.test_policy import pages_of
from tests.onboarding.test_browser import web  # noqa: F401 - a fixture.
from tests.people import PASSWORD, make_user
from webhooks.models import Delivery, Endpoint

pytestmark = [pytest.mark.browser, pytest.mark.thorough]

# How far the page can be scrolled sideways, in pixels; and the boxes that stand out of the window
# without one around them that scrolls.
TOO_WIDE = """() => {
  const page = document.scrollingElement;
  const most = page.clientWidth + 1;
  const boxed = (one) => {
    for (let up = one; up && up !== document.body; up = up.parentElement) {
      const how = getComputedStyle(up).overflowX;
      if (["auto", "scroll", "hidden", "clip"].includes(how)) return true;
    }
    return false;
  };
  const out = [...document.querySelectorAll("#content *")].filter((one) =>
    one.getBoundingClientRect().right > most && !boxed(one));
  return {wider: page.scrollWidth - page.clientWidth,
    out: out.slice(0, 5).map((one) => `${one.tagName}.${one.className}`)};
}"""
ROOM = """() => document.querySelector("#content").getBoundingClientRect().width"""
TABLE = """() => {
  const box = document.querySelector("#changelist .results");
  return box ? {box: box.clientWidth, table: box.scrollWidth} : null;
}"""
LONG = "connect_timeout:" + "no.answer.from.a.receiver-with-a-long-name.example." * 4


@pytest.fixture(scope="module")
def rows(django_db_blocker):
    """One of each, with texts as long as they come."""
    found = everything(create_tenant())
    host = "a-rather-long-host.of-some-receiver.example.org:8443"
    columns = {"last_error": LONG, "attempts": 12}
    for work in (found["webhooks/delivery"], found["jobs/job"], found["campaigns/message"]):
        type(work).objects.using(OPERATOR).filter(pk=work.pk).update(**columns)
    Delivery.objects.using(OPERATOR).filter(pk=found["webhooks/delivery"].pk).update(host=host)
    Endpoint.objects.using(OPERATOR).filter(pk=found["webhooks/endpoint"].pk).update(host=host)
    for model in (Attempt, DeadLetter):
        row = found[f"jobs/{model._meta.model_name}"]
        model.objects.using(OPERATOR).filter(pk=row.pk).update(error=LONG)
    now = timezone.now()
    Lane.objects.using(OPERATOR).filter(pk=found["jobs/lane"].pk).update(
        failures=1234, failing_since=now, operator_paused_until=now, operator_why=LONG[:200],
        paused_until=now, paused_why=LONG[:200], opened_until=now,
    )  # fmt: skip
    Drainer.objects.using(OPERATOR).filter(pk=found["jobs/drainer"].pk).update(host=uuid4().hex * 3)
    Job.objects.using(OPERATOR).filter(pk=found["jobs/job"].pk).update(lane="a:" + uuid4().hex)
    return found


LEAST = {1360: 1000, 390: 380}  # Of a window's width, what the page itself has.
LAPTOP, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


def test_nothing_is_scrolled_sideways_but_tables_on_a_phone_in_their_own_box(web, rows):  # noqa: F811
    user, tables = make_user(staff=True), 0
    paths = [*pages_of(rows), act_url(rows["jobs/job"], "cancel")]
    site = f"http://slipway.localhost:{web}"
    wide = []
    with launched() as browser:
        page = browser.new_page()
        page.goto(f"{site}/console/")
        page.fill("[name=username]", user.email)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        for path in paths:
            page.goto(site + path)
            for window in (LAPTOP, PHONE):
                page.set_viewport_size(window)
                if (said := page.evaluate(TOO_WIDE))["wider"] > 0 or said["out"]:
                    wide.append((path, window["width"], said))
                if (room := page.evaluate(ROOM)) < LEAST[window["width"]]:
                    wide.append((path, window["width"], f"a page of {room} pixels"))
                table = page.evaluate(TABLE)
                if table and table["table"] > table["box"]:
                    tables += window is PHONE
                    if window is LAPTOP:  # The whole row is seen there.
                        wide.append((path, window["width"], table))
    assert wide == []
    assert tables > 10
