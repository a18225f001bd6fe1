"""The tests' settings, for processes whose endpoints' lanes must not pause for half a minute."""

from tests.settings import *  # noqa: F403

SLIPWAY["QUEUES"]["deliveries"]["breaker"] = "tests.chaos.crowd.BREAKER"  # noqa: F405
SLIPWAY["QUEUES"]["messages"]["breaker"] = "tests.chaos.mailing.BREAKER"  # noqa: F405
SLIPWAY["QUEUES"]["messages"]["policy"] = "tests.chaos.mailing.TRIES"  # noqa: F405
