"""What goes wrong between our code and the database; what callers are told is in problems.py."""


class NoTenant(RuntimeError):
    """A tenant's table was used while the code works for no tenant; see tenants.context."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__)


class UnsafeRole(RuntimeError):
    """The web's database login could pass by row-level security."""
