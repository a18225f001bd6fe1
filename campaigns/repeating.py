"""Which messages may be sent again, and why others may not: SQL over a message `w`.

A cancelled campaign sends no more, and one past its send_until nothing but tests; who was erased
cannot be written to.
"""

from collections.abc import Mapping

REPLAYABLE_IF = """
w.phone <> '' and not exists (select from public.campaigns_campaign c
  where c.tenant_id = w.tenant_id and c.id = w.campaign_id
    and (c.state = 'cancelled' or not w.test and c.send_until <= now()))
"""
# A word → when it is the reason; the first that holds.
UNREPLAYABLE: Mapping[str, str] = {
    "erased": "w.phone = ''",
    "too_late": """exists (select from public.campaigns_campaign c
  where c.tenant_id = w.tenant_id and c.id = w.campaign_id
    and c.state <> 'cancelled' and c.send_until <= now())""",
    "campaign_cancelled": "true",
}
