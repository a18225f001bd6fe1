"""What goes wrong in the engine's services."""


class StaleState(RuntimeError):
    """The work is no longer in the state that this needs; nothing was changed."""


class LeaseLost(RuntimeError):
    """This work was taken from its drainer; nothing that it still does may be written."""


class UnknownQueue(LookupError):
    """No queue has this name."""


class UnknownKind(LookupError):
    """No kind of job has this name."""


class ReasonMissing(ValueError):
    """An operator's act needs a reason."""


class PaceRefused(ValueError):
    """No lane can be paced like this."""
