"""What the tenant's own page shows of what onboarding made: settings.SLIPWAY["HOME_PANELS"]."""

from onboarding.models import ActivityDay, Workspace
from tenants.panels import Panel


def workspace() -> Panel | None:
    """The settings that the step `workspace` laid down."""
    row = Workspace.objects.first()
    if row is None:
        return None
    segments = ", ".join(segment["name"] for segment in row.segments)
    return Panel(
        "Settings",
        [
            ("Quiet hours", f"{row.quiet_from:%H:%M} to {row.quiet_until:%H:%M}"),
            ("New members join as", row.default_role),
            ("Segments", segments or "none"),
        ],
    )


def activity() -> Panel | None:
    """The newest row of the roll-up, which the step `analytics` began."""
    row = ActivityDay.objects.order_by("-day").first()
    if row is None:
        return None
    lines = [("Members", str(row.members)), ("Customers", str(row.customers))]
    return Panel(f"Activity on {row.day:%-d %B %Y}", lines)
