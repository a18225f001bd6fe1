"""How a campaign's messages are counted: Message.tally, SQL in the transaction that moves them.

Over (id uuid, before text, after text). Whoever makes nothing remain has the campaign finished;
whoever has something of a completed one tried again has it run again (campaigns.finishing). Who
counts for several campaigns locks them in the order of their ids, as receipts do.
"""

TALLY = """
with change as materialized (
  select m.tenant_id, m.campaign_id,
    count(*) filter (where g.after = 'succeeded') - count(*) filter (where g.before = 'succeeded')
      as sent,
    count(*) filter (where g.after = 'dead_letter')
      - count(*) filter (where g.before = 'dead_letter') as failed,
    count(*) filter (where g.after = 'unknown') - count(*) filter (where g.before = 'unknown')
      as unknown,
    count(*) filter (where g.after in ('cancelled', 'discarded', 'discarding'))
      - count(*) filter (where g.before in ('cancelled', 'discarded', 'discarding')) as cancelled
  from json_to_recordset(%s::json) g(id uuid, before text, after text)
  join public.campaigns_message m on m.id = g.id
  where not m.test group by 1, 2
), campaigns as materialized (
  select c.tenant_id, c.id
  from public.campaigns_campaign c
  where (c.tenant_id, c.id) in (select tenant_id, campaign_id from change
    where (sent, failed, unknown, cancelled) <> (0, 0, 0, 0))
  order by c.id for no key update
), counted as (
  update public.campaigns_campaign c set sent = c.sent + d.sent, failed = c.failed + d.failed,
    unknown = c.unknown + d.unknown, cancelled = c.cancelled + d.cancelled
  from change d join campaigns k on k.tenant_id = d.tenant_id and k.id = d.campaign_id
  where c.tenant_id = k.tenant_id and c.id = k.id
  returning c.tenant_id, c.id,
    c.materialised_at is not null
      and case when c.total <= c.sent + c.failed + c.unknown + c.cancelled
        then c.finished_at is null else c.state = 'completed' end as turned
)
insert into public.jobs_job (id, tenant_id, lane, kind, args, max_attempts)
select slipway.uuid7(), tenant_id, 'jobs:' || tenant_id, 'campaigns.finish',
  json_build_object('campaign', id), 5
from counted where turned
"""
