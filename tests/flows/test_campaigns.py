"""The campaign of the README, word for word: customers, an account on the sandbox, the results."""

import csv
import io
import json
import re
import subprocess

import requests

from config.spreadsheets import plain
from tests.flows.stranger import Stranger
from tests.upping import ROOT, Up, wait


def shell_of_readme(running: Up, slug: str) -> str:
    """The commands of `Send a campaign`, as they would be typed beside this `make up`."""
    text = (ROOT / "README.md").read_text()
    function = re.search(r"^\$ (acme\(\) \{.*?\})$", text, re.MULTILINE | re.DOTALL)[1]
    commands = re.search(r"## Send a campaign\n.*?```sh\n(.*?)```", text, re.DOTALL)[1]
    shell = f"set -e -o pipefail\n{function}\n{commands}\necho; echo $CAMPAIGN\n"
    shell = shell.replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
    shell = shell.replace(".slipway/platform-key", str(running.state / "platform-key"))
    return shell.replace("Slipway-Tenant: acme", f"Slipway-Tenant: {slug}")


def test_the_campaign_of_the_readme_is_sent_watched_and_told_of(running: Up, stranger: Stranger):
    accepted = stranger.sign_up(email="gil@example.com", tenant_name="Garden", plan="pro")
    stranger.wait_ready(accepted)
    key = {"Authorization": f"Bearer {stranger.claim(accepted).json()['key']}"}
    shell = shell_of_readme(running, "garden")
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    path = f"http://127.0.0.1:{running.port}/v1/campaigns/{done.stdout.split()[-1]}"

    # Whoever watches hears of its end, without a key.
    links = requests.get(path, headers=key, timeout=10).json()["links"]
    with requests.get(links["events"], stream=True, timeout=60) as events:
        said = [line for line in events.iter_lines(decode_unicode=True) if line[:6] == "data: "]
    told = json.loads(said[-1].removeprefix("data: "))
    assert (told["state"], told["progress"]) == ("completed", 1.0)
    counts = told["counts"]
    assert (counts["total"], counts["sent"], counts["skipped"]) == (1, 1, 1)

    rows = csv.DictReader(io.StringIO(requests.get(links["results"], headers=key, timeout=10).text))
    found = [(plain(row["phone"]), row["status"], row["error"]) for row in rows]
    assert found == [("+4930901820", "sent", ""), ("", "skipped", "no_consent")]

    # The provider's own word, signed, comes back some time after.
    def delivered() -> bool:
        [message] = requests.get(links["messages"], headers=key, timeout=10).json()["data"]
        return bool(message["delivered_at"] or message["undelivered_at"])

    wait(delivered, 30)
