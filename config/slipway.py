"""What Slipway does: plans, queues, jobs, limits, retention. A project's own settings module may
change each entry; an extension adds to tables and lists (docs/extensions.md).
"""

from typing import Any

from celery.schedules import crontab

SLIPWAY: dict[str, Any] = {
    # What a plan gives: where its tenants live, and whether a stranger may take it.
    "PLANS": {
        "free": {"home": "pooled", "anonymous": True},
        "pro": {"home": "dedicated", "anonymous": True},
    },
    # What each tenant may have and do, where its plan's own "limits" say nothing else; the platform
    # may give a tenant others (PATCH /v1/tenants/…).
    "TENANT_LIMITS": {
        "endpoints": 50,
        "accounts": 20,  # With providers of messages.
        "events": (6000, 60),  # Published through the API: how many, in how many seconds.
    },
    "RESERVED_SLUGS": [],  # Added to onboarding.slugs.RESERVED.
    "PROVISIONING_STEPS": [],  # {"name": …, "url": …} or {"name": …, "step": "dotted.path"}.
    "SIGN_UP_CHECK": None,  # Dotted path of check(sign_up, caller), run before the insert.
    "HOME_PANELS": ["onboarding.panels.workspace", "onboarding.panels.activity"],
    "HOST_FALLBACK": "onboarding.views.setup_page",
    # What begins an operator's act on all that a filter finds (config.admin.acting).
    "BULK": "console.bulk.begin",
    "QUEUES": {
        "onboarding": {
            "model": "onboarding.PendingOnboarding",
            "step": "onboarding.steps.run",
            "undo": "onboarding.steps.undo",
            "policy": "onboarding.policy.POLICY",
            "slots": 32,  # A step that waits for a mail server holds a thread and nothing else.
            "deadline": 60.0,
        },
        "jobs": {
            "model": "jobs.Job",
            "step": "jobs.steps.run",
            "policy": "jobs.registry.policy_of_kind",
            "slots": 16,
            "deadline": 300.0,
            "retention": "works",
        },
        "deliveries": {
            "retention": "payloads",  # As long as their events: see webhooks.missing.
            "model": "webhooks.Delivery",
            "step": "webhooks.steps.deliver",
            "policy": "webhooks.policy.policy_of",
            "breaker": "webhooks.policy.BREAKER",
            "notice": "webhooks.notice",  # The kind of job that tells how endpoints fare.
            "closing": "webhooks.http.close",
            "slots": 400,  # On the loop: one that waits for an answer holds a socket.
            "destination_share": 0.25,  # Of the slots, in flight to one host at most.
            "lane_window": 16,  # To one endpoint at once.
            "tenant_window": 100,
            "deadline": 35.0,  # Behind the endpoints' own time-outs, of 30 s at most.
        },
        "messages": {
            "retention": "messages",
            "model": "campaigns.Message",
            "step": "campaigns.steps.send",
            "policy": "campaigns.policy.policy_of",
            "breaker": "campaigns.policy.BREAKER",
            "notice": "campaigns.account",  # The kind of job that hears of refused accounts.
            "pace": "campaigns.pace.pace_of",  # An account's, in each drainer (jobs.pacing).
            "closing": "webhooks.http.close",
            "slots": 1200,  # On the loop: one that waits for an answer holds a socket.
            "lane_window": None,  # A campaign's: its account has one.
            "tenant_window": 1000,
            "deadline": 20.0,  # Behind the accounts' own time-outs, and the gate's.
        },
    },
    # Kind → {"step": dotted path, "policy": …}; added to jobs.registry.KINDS.
    "JOBS": {
        "onboarding.step": {"step": "onboarding.backfill.run_step"},
        "onboarding.welcome": {"step": "onboarding.backfill.send_welcome"},
        "onboarding.reap": {"step": "onboarding.reaping.undo"},
        "webhooks.notice": {"step": "webhooks.operational.notice"},
        "webhooks.move": {"step": "webhooks.moving.run"},
        "campaigns.account": {"step": "campaigns.account_notices.notice"},
        "campaigns.unknown": {"step": "campaigns.unknown.run"},
        "customers.import": {"step": "customers.importing.run"},
        "customers.export": {"step": "customers.exporting.run"},
        "customers.sync": {"step": "customers.syncing.run", "policy": "customers.syncing.POLICY"},
        "customers.sync_due": {"step": "customers.sources.run_due"},
        "customers.erase": {"step": "customers.erasing.run", "permission": "erase"},
        "campaigns.receipts": {"step": "campaigns.receipts.run"},
        "campaigns.generate": {
            "step": "campaigns.generating.run",
            "policy": "campaigns.generating.POLICY",
        },
        "campaigns.materialise": {"step": "campaigns.materialising.run"},
        "campaigns.start": {"step": "campaigns.scheduling.start"},
        "campaigns.expire": {"step": "campaigns.scheduling.expire"},
        "campaigns.quiet": {"step": "campaigns.scheduling.quiet"},
        "campaigns.withdraw": {"step": "campaigns.withdrawing.run"},
        "campaigns.finish": {"step": "campaigns.finishing.run"},
        "campaigns.follow_up": {"step": "campaigns.following.run"},
        "console.bulk": {"step": "console.bulk.run"},
        "tenants.move": {
            "step": "lifecycle.moving.running.run",
            "policy": "lifecycle.moving.running.POLICY",
            "permission": "plan",  # Whose operator may cancel or discard it, too (console.roles).
        },
        "tenants.export": {"step": "lifecycle.exporting.run", "permission": "export"},
        "tenants.close": {
            "step": "lifecycle.purging.run",
            "policy": "lifecycle.purging.POLICY",
            "kept": "reopen the tenant",  # Neither cancelled nor discarded: what to do instead.
        },
    },
    # What sends a tenant's messages: name → dotted path of a campaigns.providers.Provider.
    "PROVIDERS": {
        "whatsapp_cloud": "campaigns.providers.whatsapp_cloud.PROVIDER",
        "http": "campaigns.providers.http.PROVIDER",
        "sandbox": "campaigns.providers.sandbox.PROVIDER",
    },
    # What makes a campaign's content of its brief: name → dotted path (campaigns.generators).
    "GENERATORS": {"template": "campaigns.generators.from_template"},
    "BACKFILLS": {
        "provisioning": "onboarding.backfill.Provisioning",
        "events": "webhooks.backfill.Events",
    },
    # How `manage.py replay` and `discard` read a queue's own options (jobs.choosing.Choice).
    "REPLAYS": {"deliveries": "webhooks.choosing.Deliveries"},
    # What the `stream` process serves, each a config.streams.Stream.
    "STREAMS": ["onboarding.stream.SIGN_UPS", "campaigns.stream.PROGRESS"],
    # Celery's periodic tasks: name → {"task": …, "schedule": seconds or crontab}.
    "BEAT": {
        # By the clock: an interval begins anew with each start of beat, and might never be over.
        "partitions": {"task": "jobs.partitions", "schedule": crontab(minute="5")},
        "prune": {"task": "jobs.prune", "schedule": crontab(minute="25")},
        "reap": {"task": "onboarding.reap", "schedule": crontab(minute="45")},
        "sessions": {"task": "tenants.sessions", "schedule": crontab(minute="15", hour="3")},
        "tend": {"task": "webhooks.tend", "schedule": 60.0},
        "campaigns": {"task": "campaigns.tend", "schedule": 60.0},
        "unknown": {"task": "campaigns.unknown", "schedule": 30.0},
        "rollup": {"task": "console.rollup", "schedule": 60.0},
        "moves": {"task": "lifecycle.moves", "schedule": 60.0},
        "lifecycle": {"task": "lifecycle.tend", "schedule": crontab(minute="35")},
    },
    # Dotted paths of what `manage.py migrate` does when public is up to date: done(alias).
    "AFTER_MIGRATE": ["console.roles.complete"],
    # How often: name → (amount, seconds).
    "LIMITS": {
        # Sign-ups of strangers: by client, by IPv6 /64, by the domain of their e-mail, of all.
        "sign-up": (5, 60),
        "sign-up-network": (10, 60),
        "sign-up-domain": (60, 60),
        "sign-up-all": (600, 60),
        "sign-up-status": (600, 60),
        # Whatever else is asked without a key, by client.
        "anonymous": (1200, 60),
        # What providers tell of messages, by client; and what of it no account has signed.
        "callback": (120_000, 60),
        "callback-refused": (60, 60),
        # Calls of ours to a provider whose host a tenant named, by tenant.
        "account-verify": (20, 60),
    },
    "WEBHOOKS": {
        # Seconds before each retry: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, which is
        # three days and four hours in all (Standard Webhooks), each up to a fifth more or less.
        "schedule": (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),
        "timeout": 15.0,  # Seconds for one try in all, a body that drips included.
        "connect_timeout": 3.0,  # Of these, for the name, the connection and TLS.
        "disable_after": 5 * 86400,  # Seconds in which an endpoint has only failed.
        "held_most": 10_000,  # Deliveries that a disabled endpoint keeps; the oldest go first.
        "catalogue_only": False,  # Whether events of types outside the catalogue are refused.
    },
    "CUSTOMERS": {
        "import_bytes": 100 * 1024 * 1024,  # Of one file.
        "imports_most": 10,  # Of a tenant's, not finished.
        "exports_most": 2,  # Likewise.
        "rejected_most": 10_000,  # Rows of one import of which is kept why they were not taken.
        "sources_most": 20,  # Of a tenant's.
        "sync_bytes": 4 * 1024 * 1024,  # Of one page of a source.
        "sync_timeout": 30.0,  # Seconds for one page in all.
        "sync_pages_most": 100_000,
        # Of the amounts of tenants whose `metadata` name no `currency` (ISO 4217); None: unsaid.
        "currency": None,
    },
    "CAMPAIGNS": {
        "segments_most": 500,  # Of a tenant's.
        "templates_most": 500,  # Likewise.
        # Seconds for which an account's breaker has been open when it is paused for good.
        "pause_after": 600,
    },
    # A tenant that moves to another home (lifecycle.moving).
    "MOVES": {
        "chunk": 2_000,  # Rows that are copied, or cleared, in one transaction.
        "pace": 20_000,  # Rows a second, so that others have the database too.
        "keep": 900,  # Seconds for which the old home is kept: as long as a signed context lasts.
    },
    # A tenant that is closed: days in which it may be reopened, before it is purged; and then days
    # in which nobody else gets its address.
    "CLOSING": {"grace": 30, "quarantine": 365},
    # A tenant's archive (lifecycle.archive): how many of one tenant's wait at once.
    "EXPORTS": {"most": 2},
    # What is in no archive, besides whatever is stored as bytes: "table" or "table.column".
    "NOT_EXPORTED": [
        "tenants_session",
        "webhooks_endpoint.custom_headers",
        "webhooks_endpoint.secrets",
        "webhooks_event.fingerprint",
        "campaigns_provideraccount.credentials",
        "customers_source.headers",
    ],
    # Event types of the project's own, beside those that the platform adds by the API:
    # name → {"description": …, "schema": JSON Schema of its data}; see webhooks.catalogue.
    "EVENT_TYPES": {},
    # Types that the platform's endpoints hear too, added to webhooks.catalogue.PLATFORM_EVENTS;
    # each begins with tenant., endpoint. or delivery., and no caller of the API can publish it.
    "PLATFORM_EVENTS": [],
    # Days. Finished works go by the name that their queue's `retention` has here (jobs.pruning).
    "RETENTION": {
        "attempts": 30,
        "works": 30,  # Finished jobs, and replays.
        "letters": 90,  # Resolved dead letters.
        "payloads": 90,  # Events, what they say, and finished deliveries.
        "messages": 180,  # Finished ones, with the numbers that they went to.
        "exports": 7,  # Their files; they go when the tenant begins another.
        "archives": 7,  # Of whole tenants.
        "imports": 30,  # Finished imports of customers; they go when the tenant begins another.
        "minutes": 3,  # Numbers of the console's overview, a row a minute and queue.
        "hours": 400,  # Likewise, a row an hour.
    },
    # Tables with a partition a day (jobs.partitions): parent → retention, and what must be done
    # before a day may go.
    "PARTITIONED": {
        "jobs_attempt": {
            "retention": "attempts",
            "before_drop": "jobs.keeping.keep_attempts",
        },
        "webhooks_payload": {
            "retention": "payloads",
            "before_drop": "webhooks.retention.keep_needed",
        },
    },
    # Dotted paths of what erases a customer where else they are kept (customers.erasing.Eraser).
    "ERASERS": ["campaigns.erasing.erase"],
    # What else is pruned, each a jobs.pruning.Sort.
    "PRUNED": [
        "webhooks.retention.KEPT_PAYLOADS",
        "webhooks.retention.EVENTS",
        "campaigns.retention.NUMBERS",
        "console.bulk.ENDED",
    ],
    # What `manage.py doctor` looks at, each a config.doctor.Look.
    "DOCTOR": {
        "settings": "config.examining.look_at_settings",
        "roles": "tenants.examining.look_at_roles",
        "isolation": "tenants.examining.look_at_isolation",
        "migrations": "tenants.examining.look_at_migrations",
        "context": "tenants.examining.look_at_context",
        "secrets": "webhooks.examining.look_at_secrets",
        "clock": "config.examining.look_at_clock",
        "partitions": "jobs.examining.look_at_partitions",
        "restored": "jobs.examining.look_at_gate",
        "drainers": "jobs.examining.look_at_drainers",
        "queues": "jobs.examining.look_at_queues",
        "letters": "jobs.examining.look_at_letters",
        "lanes": "jobs.examining.look_at_lanes",
        "moves": "lifecycle.examining.look_at_moves",
        "redis": "config.examining.look_at_redis",
        "beat": "config.examining.look_at_beat",
        "mail": "config.examining.look_at_mail",
        "storage": "tenants.examining.look_at_storage",
        "room": "config.examining.look_at_room",
    },
    # The rings that `manage.py rotate-keys` turns, each a tenants.rings.Ring.
    "KEY_RINGS": {
        "sessions": "tenants.session_ring.SESSIONS",
        "context": "tenants.context_ring.CONTEXT",
        "stored": "webhooks.rings.STORED",
        "claims": "onboarding.rings.CLAIMS",
    },
    # Columns, of text or JSON, in which there are secrets that webhooks.secrets encrypted.
    "STORED_SECRETS": [
        "webhooks.Endpoint.secrets",
        "webhooks.Endpoint.custom_headers",
        "campaigns.ProviderAccount.credentials",
        "customers.Source.headers",
        "console.SecondFactor.secret",
    ],
    # What is not to begin by itself after a restore, each a jobs.restoring.Restorer.
    "RESTORED": ["campaigns.restoring.stop"],
    # What knows which works a queue lacks (jobs.replaying.Missing).
    "MISSING": {"deliveries": "webhooks.missing.Deliveries"},
}
