"""Settings come from the environment; a bad or missing value is refused by name."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DUMP = """
import json, sys
import config.settings as s
shown = {n: getattr(s, n) for n in dir(s) if n.isupper() and n not in ("GENERATED", "EMBEDDED")}
sys.stdout.write(json.dumps(shown, default=repr, sort_keys=True))
"""
PRODUCTION = {
    "PUBLIC_URL": "https://slipway.example.com",
    "TENANT_DOMAIN": "slipway.example.com",
    "DATABASE_URL": "postgresql://slipway_app:x@db/slipway",
    "OPERATOR_DATABASE_URL": "postgresql://slipway_operator:x@db/slipway",
    "OWNER_DATABASE_URL": "postgresql://slipway_owner:x@db/slipway",
    "REDIS_URL": "redis://cache:6379/0",
    "SECRET_KEY": "s" * 50,
    "CONTEXT_KEY": "c" * 50,
    "STORED_SECRET_KEYS": "dGVzdHMtb25seS10ZXN0cy1vbmx5LXRlc3RzLW9ubHk=",
    "CLAIM_KEYS": "k" * 50,
}


def load(environment: dict[str, str], *, code: str = DUMP) -> subprocess.CompletedProcess[str]:
    """Import the settings in a process that has these variables and no others of ours."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings(environment: dict[str, str]) -> dict:
    loaded = load(environment)
    assert loaded.returncode == 0, loaded.stderr
    return json.loads(loaded.stdout)


def read_by_the_source() -> set[str]:
    """The variables that the settings, the commands and the Procfile read."""
    readers = {node.name for node in ast.walk(parsed("config/variables.py")) if is_function(node)}
    readers |= {"database", "get"}  # os.environ.get
    names = set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "Procfile").read_text()))
    for path in (
        "config/settings.py",
        "config/management/commands/prepare.py",
        "tenants/management/commands/roles.py",
    ):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and called(node) in readers:
                names |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return {name for name in names if name.isupper()} | {"ANALYTICS_DATABASE_URL"}


def parsed(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (re.fullmatch(r"# ([A-Z_]+)=(.*)", line) for line in lines)
    return {pair[1]: pair[2] for pair in pairs if pair}


def test_every_variable_stands_in_the_example_and_nothing_else_does():
    assert set(example()) == read_by_the_source()


def test_the_defaults_in_the_example_are_the_defaults(tmp_path):
    state = {"SLIPWAY_STATE_DIR": str(tmp_path)}
    stated = {k: v for k, v in example().items() if v and k != "SLIPWAY_STATE_DIR"}
    assert settings({**stated, **state}) == settings(state)
    assert example()["SLIPWAY_STATE_DIR"] == ".slipway"
    assert settings(PRODUCTION)["STATE_DIR"] == repr(ROOT / ".slipway")


def test_with_nothing_set_it_is_embedded_and_makes_secrets_that_stay(tmp_path):
    state = {"SLIPWAY_STATE_DIR": str(tmp_path)}
    first, second = settings(state), settings(state)
    assert first == second
    assert str(tmp_path) in first["DATABASES"]["default"]["OPTIONS"]["host"]
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert first["DEBUG"] is False


@pytest.mark.parametrize("name", ["SECRET_KEY", "CONTEXT_KEY", "STORED_SECRET_KEYS", "CLAIM_KEYS"])
def test_a_secret_has_no_default_once_a_database_is_named(name):
    loaded = load({k: v for k, v in PRODUCTION.items() if k != name})
    assert loaded.returncode != 0
    assert f"{name} is not set." in loaded.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "eighty", "PORT is 'eighty', not a whole number from 1 to 65535."),
        ("PORT", "70000", "PORT is '70000', not a whole number from 1 to 65535."),
        ("DEBUG", "maybe", "DEBUG is 'maybe'; say true or false."),
        ("PUBLIC_URL", "slipway.example.com", "PUBLIC_URL is 'slipway.example.com', not"),
        ("PUBLIC_URL", "https://example.com/app", "PUBLIC_URL is 'https://example.com/app', not"),
        ("PUBLIC_URL", "https://example.com:x", "PUBLIC_URL is 'https://example.com:x', which"),
        ("TENANT_DOMAIN", "a b.example", "TENANT_DOMAIN is 'a b.example', not a host name."),
        ("TRUSTED_PROXIES", "10.0.0.1,nginx", "TRUSTED_PROXIES has 'nginx' in it"),
        ("SLIPWAY_BROKER", "rabbit", "SLIPWAY_BROKER is 'rabbit'; say one of redis, none."),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL is 'LOUD'; say one of"),
        ("DATABASE_URL", "mysql://db/slipway", "DATABASE_URL is not the URL of a Postgres"),
        ("OPERATOR_DATABASE_URL", "nonsense", "OPERATOR_DATABASE_URL is not the URL of a Postgres"),
        ("REDIS_URL", "http://cache", "REDIS_URL does not begin with"),
        ("EMAIL_URL", "pigeon://post", "EMAIL_URL is not the URL of a mail server"),
        ("TENANT_STORAGE_OPTIONS", "[1]", "TENANT_STORAGE_OPTIONS is not a JSON object."),
        ("SECRET_KEY", "short", "SECRET_KEY is shorter than 32 characters."),
        ("CLAIM_KEYS", "k" * 40 + ",short", "CLAIM_KEYS is shorter than 32 characters."),
        ("STORED_SECRET_KEYS", "x" * 44, "STORED_SECRET_KEYS: key 1 is not a Fernet key"),
        ("WEBHOOK_OPEN_DESTINATIONS", "host", "WEBHOOK_OPEN_DESTINATIONS has 'host' in it, not"),
        ("WEBHOOK_OPEN_DESTINATIONS", "a:1,b:0", "WEBHOOK_OPEN_DESTINATIONS has 'b:0' in it, not"),
        ("WEBHOOK_OPEN_DESTINATIONS", "::1:80", "WEBHOOK_OPEN_DESTINATIONS has '::1:80' in it"),
        ("WEBHOOK_OPEN_DESTINATIONS", "*:80", "WEBHOOK_OPEN_DESTINATIONS has '*:80' in it, not"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_a_sentence_that_names_it(name, value, sentence):
    loaded = load({**PRODUCTION, name: value})
    assert loaded.returncode != 0
    assert sentence in loaded.stderr.splitlines()[-1]


def test_a_refusal_never_shows_a_secret():
    bad = {**PRODUCTION, "CONTEXT_KEY": "hunter2", "DATABASE_URL": "mysql://u:hunter2@db/slipway"}
    assert "hunter2" not in load(bad).stderr.splitlines()[-1]


def test_production_settings_are_secure_by_themselves():
    found = settings(PRODUCTION)
    assert found["SESSION_COOKIE_SECURE"] is found["CSRF_COOKIE_SECURE"] is True
    assert found["SESSION_COOKIE_NAME"].startswith("__Host-")
    assert found["SECURE_HSTS_SECONDS"] >= 31_536_000
    assert found["SECURE_SSL_REDIRECT"] is True
    assert found["DEBUG"] is False
    assert found["STREAM_URL"] == "https://slipway.example.com"
    assert found["SANDBOX_PORT"] == 0  # And so no way to this machine's own addresses.
    assert found["WEBHOOK_OPEN_DESTINATIONS"] == []


def test_the_deployment_check_of_django_finds_nothing():
    code = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check", "--deploy", "--fail-level", "WARNING"])
"""
    checked = load(
        {**PRODUCTION, "SECRET_KEY": "a1B2c3D4e5" * 6, "EMAIL_URL": "smtp+tls://mail:587"},
        code=code,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_web_process_without_the_operators_login_has_no_way_past_isolation():
    found = settings({k: v for k, v in PRODUCTION.items() if k != "OPERATOR_DATABASE_URL"})
    assert "operator" not in found["DATABASES"]


def test_webhooks_go_to_public_https_alone_unless_pairs_are_opened(tmp_path):
    state = {"SLIPWAY_STATE_DIR": str(tmp_path), "SANDBOX_PORT": "0"}
    assert settings(state)["WEBHOOK_OPEN_DESTINATIONS"] == []
    opened = {"WEBHOOK_OPEN_DESTINATIONS": "127.0.0.1:9000, [::1]:9001,Hooks.Internal:80"}
    assert settings(state | opened)["WEBHOOK_OPEN_DESTINATIONS"] == [
        ["127.0.0.1", 9000],
        ["::1", 9001],
        ["hooks.internal", 80],
    ]


def test_a_sandbox_is_there_and_open_only_where_slipway_is_tried(tmp_path):
    tried = settings({"SLIPWAY_STATE_DIR": str(tmp_path), "PORT": "8100"})
    assert tried["SANDBOX_PORT"] == 8102
    assert tried["WEBHOOK_OPEN_DESTINATIONS"] == [["127.0.0.1", 8102]]
    served = {"SLIPWAY_STATE_DIR": str(tmp_path), "PUBLIC_URL": "https://slipway.example.com"}
    assert settings(served)["SANDBOX_PORT"] == 0
    assert settings(served)["WEBHOOK_OPEN_DESTINATIONS"] == []


def test_a_session_of_the_console_is_short_in_production_and_long_at_home(tmp_path):
    home, served = settings({"SLIPWAY_STATE_DIR": str(tmp_path)}), settings(PRODUCTION)
    assert (home["CONSOLE_SESSION_AGE"], home["CONSOLE_SESSION_IDLE"]) == (1_209_600,) * 2
    assert (served["CONSOLE_SESSION_AGE"], served["CONSOLE_SESSION_IDLE"]) == (43_200, 3_600)
    assert served["CONSOLE_HOST"] == ""


@pytest.mark.parametrize("host", ["slipway.example.com", "www.console.example.com"])
def test_the_consoles_own_host_is_none_that_serves_anything_else(host):
    assert "CONSOLE_HOST is" in load({**PRODUCTION, "CONSOLE_HOST": host}).stderr
    named = settings({**PRODUCTION, "CONSOLE_HOST": "console.example.com"})
    assert named["CONSOLE_HOST"] == "console.example.com"


def test_the_consoles_door_is_locked_in_production_and_open_at_home(tmp_path):
    home = settings({"SLIPWAY_STATE_DIR": str(tmp_path)})
    assert (home["SIGN_IN_LOCKOUT"], home["AXES_ENABLED"], home["SECOND_FACTOR"]) == (False,) * 3
    served = settings(PRODUCTION)
    assert (served["SIGN_IN_LOCKOUT"], served["AXES_ENABLED"], served["SECOND_FACTOR"]) == (
        True,
    ) * 3
    chosen = settings({**PRODUCTION, "SECOND_FACTOR": "false", "SIGN_IN_LOCKOUT": "no"})
    assert (chosen["AXES_ENABLED"], chosen["SECOND_FACTOR"]) == (False, False)
    asked = settings({"SLIPWAY_STATE_DIR": str(tmp_path), "SECOND_FACTOR": "true"})
    assert (asked["AXES_ENABLED"], asked["SECOND_FACTOR"]) == (False, True)
