from django.db import migrations, models

from tenants.roles import APP

# What a tenant says about its lanes. What an operator says is in columns that only the operator
# writes: else whoever changes an endpoint would lift what an operator laid upon it.
SAID = """insert (tenant_id, key, paused_until, paused_why, "window", rate) on jobs_lane"""
FORWARD = f"revoke insert on jobs_lane from {APP}; grant {SAID} to {APP}"
BACKWARD = f"revoke {SAID} from {APP}; grant insert on jobs_lane to {APP}"
# Until now an operator's pause stood among the tenant's; the engine's and an endpoint's stay.
TAKE_OVER = """
update jobs_lane l set operator_paused_until = l.paused_until, operator_why = l.paused_why,
  paused_until = null, paused_why = ''
where l.paused_until > now() and exists (
  select from tenants_auditentry a where a.target = left('lane:' || l.key, 100)
    and a.tenant_id = l.tenant_id and a.action = 'lane.paused' and a.actor like 'operator:%'
    and left(a.reason, 200) = l.paused_why)
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0007_forgiven")]

    operations = [
        migrations.AddField("lane", "operator_paused_until", models.DateTimeField(null=True)),
        migrations.AddField(
            "lane",
            "operator_why",
            models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.AddField("lane", "operator_window", models.IntegerField(null=True)),
        migrations.AddField("lane", "operator_rate", models.FloatField(null=True)),
        migrations.RunSQL(TAKE_OVER, migrations.RunSQL.noop),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
