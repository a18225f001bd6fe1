"""How long a message's number is kept whose end nobody sees: it failed, or is unknown.

Finished messages go as a whole (the queue's `retention`). These stay, as numbers of their campaign,
which says how many they were; whom they went to and what they said go as long after its end.
"""

from jobs.pruning import Sort

NUMBERS = Sort(
    "message_numbers",
    "campaigns_message",
    "messages",
    "id",
    """r.id in (
  select m.id from campaigns_campaign c join campaigns_message m
    on m.tenant_id = c.tenant_id and m.campaign_id = c.id and m.state in ('dead_letter', 'unknown')
  where c.state in ('completed', 'cancelled') and c.finished_at < %(before)s
    and c.failed + c.unknown > 0 and m.phone <> '')
  and r.state in ('dead_letter', 'unknown')""",
    forget="phone = '', params = '{}'",
)
