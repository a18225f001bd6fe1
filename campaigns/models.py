"""Whom a tenant writes to, what, through which provider, and each message.

A message's lane is its campaign's, so that one campaign is paused without another; where it goes is
its account, which all campaigns of that account share (jobs.engine.pacing).
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from campaigns.counting import TALLY
from campaigns.parts import Parts, read
from campaigns.repeating import REPLAYABLE_IF, UNREPLAYABLE
from campaigns.states import AccountStatus, CampaignState, OnUnknown
from config.ids import uuid7
from jobs.models import NEWEST, Work, standing
from jobs.states import State
from tenants.models import TenantOwned

# States that few messages come to, and few leave: what a list by state is about.
SET_ASIDE = (
    State.FAILED,
    State.DEAD_LETTER,
    State.DISCARDING,
    State.DISCARDED,
    State.CANCELLED,
    State.UNKNOWN,
    State.HELD,
)
# How `last_error` begins where an earlier try was perhaps accepted: campaigns.steps.DOUBT, and what
# the engine itself says.
DOUBTFUL = "^(perhaps sent|lost|not done)"
# When the first try was begun that was perhaps accepted; its making, where tries are long gone.
DOUBTED_AT = f"""
coalesce((select min(t.started_at) from public.jobs_attempt t
  where t.tenant_id = {{work}}.tenant_id and t.work_id = {{work}}.id and t.queue = 'messages'
    and (t.outcome in ('unknown', 'lost') or t.error ~ '{DOUBTFUL}')), {{work}}.created_at)
"""  # noqa: S608


class ProviderAccount(TenantOwned):
    """A tenant's account with a provider of messages. Its lane row is `account:<id>`."""

    class Mode(models.TextChoices):
        ADAPTIVE = "adaptive"  # As many at once as the provider bears (jobs.engine.pacing).
        COMPAT = "compat"  # 30 at a time, one batch after the other, 5 minutes at most for each.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    provider = models.CharField(max_length=40)  # A name in SLIPWAY["PROVIDERS"].
    base_url = models.TextField()
    sender = models.CharField(max_length=100)  # By the provider's name: a phone number's id.
    credentials = models.TextField()  # Encrypted JSON (webhooks.secrets).
    options = models.JSONField(default=dict)  # What the provider's own module reads.
    rate = models.FloatField(null=True)  # Messages a second, as declared; None: to be learnt.
    max_in_flight = models.IntegerField(null=True)
    mode = models.CharField(max_length=10, choices=Mode.choices, default=Mode.ADAPTIVE)
    status = models.CharField(
        max_length=10, choices=AccountStatus.choices, default=AccountStatus.ACTIVE
    )
    paused_reason = models.CharField(max_length=200, blank=True, default="")
    verified_at = models.DateTimeField(null=True)  # The provider took the credentials.
    # Since when it leads where it does: another provider knows nothing of what went before.
    led_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="account_name",
                condition=Q(deleted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"account {self.pk}"

    @property
    def key(self) -> str:
        """What its messages have as their destination, and its lane row as its key."""
        return f"account:{self.pk}"


class Segment(TenantOwned):
    """A filter over the tenant's customers, with a name (campaigns.segments)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    filter = models.JSONField()
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="segment_name",
                condition=Q(deleted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"segment {self.pk}"


class Template(TenantOwned):
    """What a message says, with `{{variables}}`. What a campaign sends is its own copy."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    text = models.TextField()
    header = models.TextField(blank=True, default="", db_default="")
    buttons = models.JSONField(default=list, db_default=Value([], models.JSONField()))  # With URLs.
    # What the provider knows it by, where it must have been approved there.
    external_name = models.CharField(max_length=512, blank=True, default="")
    language = models.CharField(max_length=15, default="en")
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"],
                name="template_name",
                condition=Q(deleted_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"template {self.pk}"

    @property
    def parts(self) -> Parts:
        return read({"text": self.text, "header": self.header, "buttons": self.buttons})


class Campaign(TenantOwned):
    """One message to all of a segment. Its lane is `campaign:<id>`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100)
    state = models.CharField(
        max_length=14, choices=CampaignState.choices, default=CampaignState.DRAFT
    )
    account = models.ForeignKey(
        ProviderAccount, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    # ---- Frozen when it is launched ----
    segment = models.ForeignKey(
        Segment,
        models.DO_NOTHING,
        null=True,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    filter = models.JSONField(default=dict)  # The segment's, or its own.
    template = models.ForeignKey(
        Template,
        models.DO_NOTHING,
        null=True,
        db_constraint=False,
        related_name="+",
        db_index=False,
    )
    # {"template": {…}} as it stood, or what the generator is given.
    brief = models.JSONField(default=dict)
    generator = models.CharField(max_length=40, default="template")  # Of SLIPWAY["GENERATORS"].
    # Variable → {"field": …, "default": …} or {"value": …} (campaigns.variables).
    variables = models.JSONField(default=dict)
    # What the generator made of the brief: {"text", "external_name", "language", perhaps "header"
    # and "buttons"}.
    content = models.JSONField(null=True)
    # ---- When ----
    scheduled_at = models.DateTimeField(null=True)
    send_until = models.DateTimeField(null=True)
    # {"from": "21:00", "until": "08:00"} in time_zone; None: at any hour.
    quiet_hours = models.JSONField(null=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    quiet_from = models.DateTimeField(null=True)  # The next quiet hours, while it sends.
    # {"after": seconds, "template": id, "variables": …, …}: to those who did not read it.
    follow_up = models.JSONField(null=True)
    parent = models.ForeignKey(
        "self", models.DO_NOTHING, null=True, db_constraint=False, related_name="+", db_index=False
    )
    on_unknown = models.CharField(max_length=5, choices=OnUnknown.choices, default=OnUnknown.HOLD)
    # ---- The audience, and how far it is ----
    place = models.UUIDField(null=True)  # The last customer that was looked at.
    materialised_at = models.DateTimeField(null=True)
    total = models.IntegerField(default=0, db_default=0)  # Messages.
    skipped = models.IntegerField(default=0, db_default=0)  # Customers who got none, and why: Skip.
    # ---- Counted by Message.tally, in the transaction that moves the messages ----
    sent = models.IntegerField(default=0, db_default=0)
    failed = models.IntegerField(default=0, db_default=0)
    unknown = models.IntegerField(default=0, db_default=0)
    cancelled = models.IntegerField(default=0, db_default=0)
    # ---- By the provider's callbacks ----
    delivered = models.IntegerField(default=0, db_default=0)
    read = models.IntegerField(default=0, db_default=0)
    undelivered = models.IntegerField(default=0, db_default=0)

    reason = models.CharField(max_length=500, blank=True, default="")  # For the state it is in.
    actor = models.CharField(max_length=100)
    idempotency_key = models.BinaryField(null=True)
    fingerprint = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "idempotency_key"],
                name="campaign_idempotency",
                condition=Q(idempotency_key__isnull=False),
            ),
        ]
        indexes = [
            # What a paused account pauses, and what is tended.
            models.Index(
                fields=["tenant", "account"],
                name="campaign_live",
                condition=Q(
                    state__in=[
                        CampaignState.SCHEDULED,
                        CampaignState.MATERIALISING,
                        CampaignState.RUNNING,
                        CampaignState.PAUSED,
                    ]
                ),
            ),
            models.Index("state", NEWEST, name="campaign_standing"),  # The console's list.
            # campaigns.unknown: of whom nobody can tell.
            models.Index(fields=["tenant"], name="campaign_unsure", condition=Q(unknown__gt=0)),
        ]

    def __str__(self) -> str:
        return f"campaign {self.pk}"

    @property
    def lane(self) -> str:
        """The key of its lane."""
        return f"campaign:{self.pk}"

    @property
    def remaining(self) -> int:
        """Messages that have not come to their end."""
        return max(0, self.total - self.sent - self.failed - self.unknown - self.cancelled)


class Message(Work):
    """One message of a campaign to one customer, with what is personal in it frozen."""

    claimed = ("campaign_id", "phone", "params", "test")
    patchable = ("provider_id",)
    # All that a try needs comes with the claim; whether its customer still wants it does not, since
    # customers may live in a schema of their own (campaigns.gate).
    carried: ClassVar[Mapping[str, str]] = {
        "customer_id": "taken.customer_id",
        "content": "c.content::text",
        # Tests go out whatever their campaign does.
        "stopped": """not taken.test
  and (coalesce(c.state <> 'running', true) or coalesce(c.quiet_from <= now(), false))""",
        "cancelled": "not taken.test and coalesce(c.state = 'cancelled', true)",
        "doubtful": f"taken.last_error ~ '{DOUBTFUL}'",
        # The account leads elsewhere since: where it does now, nobody knows of that try.
        "moved": f"""coalesce(c.on_unknown <> 'retry', true)
  and case when taken.last_error ~ '{DOUBTFUL}'
    then {DOUBTED_AT.format(work="taken")} <= a.led_at else false end""",
        "expired": "not taken.test and coalesce(c.send_until <= now(), false)",
        "account_id": "a.id",
        "account_status": "case when a.deleted_at is null then a.status else 'deleted' end",
        "provider": "a.provider",
        "base_url": "a.base_url",
        "sender": "a.sender",
        "credentials": "a.credentials",
        "options": "a.options::text",
        "rate": "a.rate",
        "max_in_flight": "a.max_in_flight",
        "mode": "a.mode",
        # A campaign's numbers tell of what fails; only an account's own trouble is passed on.
        "quiet": "true",
    }
    carried_from = """
left join public.campaigns_campaign c
  on c.tenant_id = taken.tenant_id and c.id = taken.campaign_id
left join public.campaigns_provideraccount a on a.tenant_id = c.tenant_id and a.id = c.account_id
"""
    destination = "account_key"
    never_twice = True
    # What failed may be tried again; of what is unknown its tenant says so (campaigns.unknown).
    replayable = (State.DEAD_LETTER, State.UNKNOWN)
    replayable_if = REPLAYABLE_IF
    unreplayable = UNREPLAYABLE
    tally = TALLY

    campaign = models.ForeignKey(
        Campaign, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    account_key = models.CharField(max_length=50, db_collation="C")  # ProviderAccount.key
    customer_id = models.UUIDField(null=True)  # No key: customers may live in another schema.
    phone = models.CharField(max_length=16)  # E.164; empty once its customer was erased.
    params = models.JSONField(default=dict)  # Variable → what it says to this customer.
    test = models.BooleanField(default=False, db_default=False)
    # ---- What the provider says of it ----
    provider_id = models.CharField(max_length=200, blank=True, default="", db_default="")
    delivered_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)
    undelivered_at = models.DateTimeField(null=True)  # Accepted, and then not delivered.
    undelivered_why = models.CharField(max_length=200, blank=True, default="", db_default="")

    class Meta(Work.Meta):
        abstract = False
        constraints = [
            # Nobody is written to twice by one campaign.
            models.UniqueConstraint(
                fields=["tenant", "campaign", "phone"],
                name="message_once",
                condition=Q(test=False) & ~Q(phone=""),
            ),
        ]
        indexes = [
            *Work.Meta.indexes,
            standing("message_standing"),
            # A campaign's messages, in the order in which they were made: a list, a file.
            models.Index(fields=["tenant", "campaign", "id"], name="message_listed"),
            models.Index(
                fields=["tenant", "campaign", "state", "id"],
                name="message_set_aside",
                condition=Q(state__in=SET_ASIDE),
            ),
            # Callbacks that name a message as the provider does.
            models.Index(
                fields=["tenant", "provider_id"],
                name="message_provider_id",
                condition=~Q(provider_id=""),
            ),
            # jobs.pruning: what was finished longest ago.
            models.Index(
                fields=["finished_at"],
                name="message_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]

    @classmethod
    def of_lane(cls, lane: str, states: Collection[State]) -> tuple[str, Any] | None:
        """By `message_set_aside`, for a campaign's lane. See Work.of_lane."""
        kind, _, campaign_id = lane.partition(":")
        if kind != "campaign" or not set(states) <= set(SET_ASIDE):
            return None
        try:
            value = UUID(campaign_id)
        except ValueError:
            return None
        aside = ", ".join(f"'{state}'" for state in SET_ASIDE)
        return f"w.campaign_id = %(of_lane)s and w.state in ({aside})", value


class Skip(TenantOwned):
    """A customer of the segment who got no message, and why."""

    class Reason(models.TextChoices):
        NO_PHONE = "no_phone"
        NO_CONSENT = "no_consent"  # Never asked.
        OPTED_OUT = "opted_out"  # Consent was withdrawn.
        SUPPRESSED = "suppressed"  # The number is on the tenant's list.
        DUPLICATE_PHONE = "duplicate_phone"  # Somebody else with the number gets it.
        MISSING_VARIABLE = "missing_variable"  # And there is no default: see `detail`.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    campaign = models.ForeignKey(
        Campaign, models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    customer_id = models.UUIDField(null=True)  # None once its customer was erased.
    reason = models.CharField(max_length=20, choices=Reason.choices)
    detail = models.CharField(max_length=100, blank=True, default="", db_default="")

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "campaign", "id"], name="skip_listed"),
            models.Index(
                fields=["tenant", "customer_id"],
                name="skip_customer",
                condition=Q(customer_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer_id}: {self.reason}"
