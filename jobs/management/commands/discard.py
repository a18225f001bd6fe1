"""manage.py discard QUEUE: give works up, and undo what they made."""

from jobs.management.resolution import ResolutionCommand
from jobs.models import Replay


class Command(ResolutionCommand):
    help = "Give works up that are dead (or, by --state, wait): counted first, then queued."
    action = Replay.Action.DISCARD
    examples = """
  manage.py discard deliveries --tenant acme --dead-reason overflow --reason "too old to matter"
  manage.py discard deliveries --tenant acme --endpoint ep_… --state held --reason "was a test"
  manage.py discard onboarding --id 018f… --reason "a bot" --yes
"""
