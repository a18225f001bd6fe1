"""manage.py replay QUEUE: do dead works again, or make those that are missing."""

from typing import Any

from jobs.management.resolution import ResolutionCommand
from jobs.models import Replay


class Command(ResolutionCommand):
    help = "Do works again that are dead (or, by --state, finished): counted first, then queued."
    action = Replay.Action.REPLAY
    examples = """
  manage.py replay deliveries --dry-run
  manage.py replay deliveries --tenant acme --endpoint ep_… --since 2026-03-01T08:00Z \\
      --reason "their gateway is back"
  manage.py replay deliveries --tenant acme --missing --since 2026-03-01 --reason "filter was wrong"
  manage.py replay onboarding --id 018f… --reason "the bucket exists now" --wait
"""

    def action_of(self, options: dict[str, Any]) -> Replay.Action:
        return Replay.Action.MISSING if options.get("missing") else Replay.Action.REPLAY
