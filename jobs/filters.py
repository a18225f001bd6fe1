"""Filters of the console's lists of lanes and drainers, by how they stand now."""

from datetime import timedelta

from django.db.models import Q

from config.admin.filters import Choice
from config.admin.paging import Wish
from jobs.models import LANE_PAUSED

OFTEN = 3  # Failures in a row.
ALIVE = timedelta(seconds=15)  # Since a drainer's last beat, at most.
_NONE = Q(pk__in=[])


class ByPause(Choice):
    """Lanes that are held back now."""

    title = parameter_name = "paused"

    @staticmethod
    def words() -> list[tuple[str, str]]:
        return [("yes", "held back now"), ("no", "not held back")]

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        still = Q(paused_until__gt=self.now) | Q(operator_paused_until__gt=self.now)
        if self.value == "yes":
            return Wish("paused", also=LANE_PAUSED & still, value=True)
        is_free = Q(paused_until=None) | Q(paused_until__lte=self.now)
        by_operator = Q(operator_paused_until=None) | Q(operator_paused_until__lte=self.now)
        return Wish("paused", also=is_free & by_operator if self.value == "no" else _NONE)


class ByFailing(Choice):
    """Lanes that fail, by how often in a row."""

    title = parameter_name = "failing"

    @staticmethod
    def words() -> list[tuple[str, str]]:
        return [
            ("yes", "failing"),
            ("often", f"{OFTEN} times in a row, or more"),
            ("no", "not failing"),
        ]

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        fails = {
            "yes": Q(failing_since__isnull=False),
            "often": Q(failing_since__isnull=False, failures__gte=OFTEN),
            "no": Q(failing_since__isnull=True),
        }
        return Wish("failing", also=fails.get(self.value, _NONE), value=self.value)


class ByLife(Choice):
    """Drainers that live, as the overview counts them."""

    title = parameter_name = "alive"

    @staticmethod
    def words() -> list[tuple[str, str]]:
        return [("yes", "alive"), ("no", "gone, or silent")]

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        alive = Q(dead_at=None, beat_at__gt=self.now - ALIVE)
        silent = Q(dead_at__isnull=False) | Q(beat_at__lte=self.now - ALIVE)
        also = {"yes": alive, "no": silent}.get(self.value, _NONE)
        return Wish("alive", also=also)
