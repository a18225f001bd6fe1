"""The proof of the proofs: with row-level security switched off, the attacks succeed.

A test of isolation that passes on an open database proves nothing.
"""

import os
import re
import subprocess
import sys

from tests.conftest import PREPARED, ROOT

OPEN_ALL = """
do $$
declare t regclass;
begin
    for t in select oid from pg_class where relrowsecurity loop
        execute format('alter table %s disable row level security', t);
    end loop;
end $$
"""


def test_every_attack_succeeds_once_the_policies_are_off():
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "SLIPWAY_", "DATABASE_", "OPERATOR_", "OWNER_"))
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not other_guard",
         "--tb=no", "tests/tenants/test_isolation.py"],
        cwd=ROOT,
        env=environment | {"SLIPWAY_TEST_SABOTAGE": OPEN_ALL, PREPARED: os.environ[PREPARED]},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    failed = re.search(r"(\d+) failed", run.stdout)
    assert failed, run.stdout + run.stderr
    assert int(failed[1]) >= 20, run.stdout
    assert " passed" not in run.stdout.splitlines()[-1], run.stdout
