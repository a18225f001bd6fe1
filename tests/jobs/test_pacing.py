"""Windows and pacers in virtual time, against providers of every sort.

The providers are those that the design was measured with: A and C take 80 works a second, E takes
five, B has 20 places and a queue before them, D has 500.
"""

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest

from jobs.pacing import Adaptive, Batches, Declared, Learnt, Sign, control

GAP = 0.02  # Seconds between two claims, at least.


@dataclass
class Provider:
    """`rate` a second and 429 beyond; `places` at once and a queue beyond; median and spread.

    From `away[0]` to `away[1]` it answers 429 to all, from `silent[0]` to `silent[1]` nothing; from
    `less[0]` on its rate is `less[1]`.
    """

    rate: float | None
    places: int | None
    seconds: float
    spread: float
    hang: float = 0.0  # The share of works that it never answers.
    away: tuple[float, float] = (0.0, 0.0)
    silent: tuple[float, float] = (0.0, 0.0)
    less: tuple[float, float] = (math.inf, 0.0)
    tokens: float = 0.0
    asked_at: float = 0.0
    queue: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(7)
        self.tokens = self.rate or 0.0
        self.queue = [0.0] * (self.places or 0)

    def call(self, now: float) -> tuple[float, str]:
        """When it ends, and how."""
        if self.away[0] <= now < self.away[1]:
            return now + 0.03, "429"
        if self.silent[0] <= now < self.silent[1]:
            return now + 10.0, "lost"
        if now >= self.less[0]:
            self.rate = self.less[1]
        if self.rate is not None:
            self.tokens = min(self.rate, self.tokens + (now - self.asked_at) * self.rate)
            self.asked_at = now
            if self.tokens < 1:
                return now + 0.03, "429"
            self.tokens -= 1
        if self.random.random() < self.hang:
            return now + 10.0, "lost"
        took = self.seconds * math.exp(self.random.gauss(0, self.spread))
        if self.places is None:
            return now + took, "answered"
        begins = max(now, heapq.heappop(self.queue))
        heapq.heappush(self.queue, begins + took)
        return begins + took, "answered"


PROVIDERS = {
    "A": lambda: Provider(80, None, 2.0, 0.25),
    "B": lambda: Provider(None, 20, 0.3, 0.25),
    "C": lambda: Provider(80, None, 0.05, 0.3),
    "D": lambda: Provider(None, 500, 2.0, 0.25),
    "E": lambda: Provider(5, None, 0.5, 0.3),
}


@dataclass
class Run:
    """What became of a run of works against one provider."""

    answers: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    refused: int = 0
    in_flight: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def rate(self, since: float, until: float) -> float:
        return sum(1 for at in self.answers if since <= at < until) / (until - since)

    @property
    def share_refused(self) -> float:
        return self.refused / len(self.starts)

    @property
    def busiest_second(self) -> int:
        return max(
            sum(1 for at in self.starts[n : n + 500] if at < first + 1.0)
            for n, first in enumerate(self.starts)
        )


def run(
    place,
    provider: Provider,
    *,
    seconds: float,
    works: int = 10**9,
    late: float = 0.0,
    held: tuple[float, float] = (math.inf, math.inf),
) -> Run:
    """Send to `provider` as a drainer does: at once when there is room, by timer when not.

    `held`: of each so many seconds nothing is sent in the last ones, as of a campaign by turns.
    """
    made, chance = Run(), random.Random(3)
    events: list[tuple[float, int, str, float]] = [(0.0, 0, "claim", 0.0)]
    claimed_at, claim_at, nth, busy = -1.0, 0.0, 0, 0

    def want(at: float) -> None:
        nonlocal claim_at, nth
        at = max(at + late * chance.random(), claimed_at + GAP)
        if at < claim_at:
            claim_at, nth = at, nth + 1
            heapq.heappush(events, (at, nth, "claim", 0.0))

    while events:
        now, _, what, began_at = heapq.heappop(events)
        if now >= seconds:
            break
        if what == "claim":
            if now != claim_at:
                continue
            claim_at, claimed_at = math.inf, now
            every, sent = held
            if now % every >= sent:
                want(now - now % every + every)
                continue
            n = int(min(place.room(now), works - len(made.starts), 600))
            place.began(now, n)
            busy += n
            for _ in range(n):
                made.starts.append(now)
                ends_at, how = provider.call(now)
                nth += 1
                heapq.heappush(events, (ends_at, nth, how, now))
        else:
            busy -= 1
            if what == "429":
                made.refused += 1
                place.throttled(now, 1.0)
            else:
                place.ended(now, now - began_at, Sign(what))
            if what == "answered":
                made.answers.append(now)
                made.latencies.append(now - began_at)
        made.in_flight.append(busy)
        wait = place.wait(now)
        if wait is not None:
            want(now + wait)
    made.latencies.sort()
    return made


def place(rate=None, **declared):
    return control(Declared(rate=rate, **declared), now=0.0, initial=10)


# ---- What it comes to ----


@pytest.mark.parametrize("name", ["A", "C"])
@pytest.mark.parametrize("declared", [None, 80.0])
def test_it_comes_close_to_what_a_provider_takes_and_is_hardly_ever_refused(name, declared):
    made = run(place(declared), PROVIDERS[name](), seconds=90, late=0.02)
    assert made.rate(45, 90) >= 0.85 * 80
    assert made.share_refused <= 0.02
    assert made.rate(0, 90) >= 70.6 * 0.95 if declared is None else 75  # With its beginning.


def test_what_is_declared_is_there_from_the_first_second_and_never_exceeded():
    made = run(place(80.0), PROVIDERS["A"](), seconds=30, late=0.02)
    assert made.refused == 0
    assert made.busiest_second <= 80
    assert sum(1 for at in made.starts if at < 2.0) >= 0.85 * 160


@pytest.mark.parametrize("declared", [None, 5.0])
def test_it_finds_the_pace_of_a_tiny_provider(declared):
    made = run(place(declared), PROVIDERS["E"](), seconds=300, late=0.02)
    assert made.rate(0, 300) >= 0.85 * 5
    assert made.share_refused <= 0.03
    assert declared is None or made.refused == 0


def test_it_does_not_fill_the_queue_of_a_provider_with_few_places():
    made = run(place(), PROVIDERS["B"](), seconds=60)
    assert made.rate(0, 60) >= 0.95 * 64.4
    in_flight = made.in_flight[len(made.in_flight) // 2 :]
    assert sum(in_flight) / len(in_flight) <= 50  # 200 at once would be 196.
    assert made.latencies[int(len(made.latencies) * 0.99)] <= 1.5


def test_it_opens_wide_for_a_provider_that_takes_much():
    made = run(place(), PROVIDERS["D"](), seconds=90)
    assert made.rate(45, 90) >= 0.85 * 242
    assert len([at for at in made.starts if at < 60]) >= 9000  # Five hours, one after the other.


def test_three_drainers_share_a_declared_rate():
    third = control(Declared(rate=81.0), now=0.0, initial=10, drainers=3)
    made = run(third, PROVIDERS["A"](), seconds=30)
    assert made.busiest_second <= 27
    assert made.rate(10, 30) >= 0.85 * 27


def test_one_work_in_ten_that_hangs_leaves_the_others_their_window():
    made = run(place(), Provider(None, 60, 0.3, 0.25, hang=0.08), seconds=60)
    assert made.rate(30, 60) >= 50


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_one_work_in_ten_that_is_never_answered_does_not_end_in_a_crawl(rate):
    """It did, at three a second: what was lost before a cut, and chance, cut it again and again."""
    one = place(rate, max_in_flight=1000)
    made = run(one, Provider(None, 500, 2.0, 0.25, hang=0.1), seconds=120, late=0.02)
    assert made.rate(20, 60) >= 0.8 * 242
    assert made.rate(60, 120) >= 0.8 * 242


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_a_pause_says_nothing_of_what_a_provider_takes(rate):
    """Of what ends in one most is lost: an answer comes after two seconds, a loss after ten."""
    one = place(rate, max_in_flight=1000)
    provider = Provider(None, 500, 2.0, 0.25, hang=0.1)
    made = run(one, provider, seconds=200, late=0.02, held=(20.0, 8.0))
    assert made.rate(180, 190) >= 0.8 * made.rate(20, 30)


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_it_comes_back_soon_to_a_provider_that_answered_nothing_for_minutes(rate):
    """Its works took ten seconds each then, and are not spaced by that any longer."""
    provider = Provider(None, 60, 0.3, 0.25, silent=(20.0, 320.0))
    made = run(place(rate, max_in_flight=1000), provider, seconds=360, late=0.02)
    assert made.rate(320, 340) >= 60  # One or two, spaced as before.
    assert made.rate(340, 360) >= 0.9 * 193


def test_what_began_before_a_cut_does_not_cut_again():
    one = place()
    one.window.size = 20.0
    one.began(0.0, 20)
    for _ in range(20):
        one.ended(5.0, 5.0, Sign.LOST)
    assert one.window.size == 14
    one.began(5.0, 14)
    for _ in range(14):
        one.ended(6.0, 6.0, Sign.LOST)  # These began before it, too.
    assert one.window.size == 14
    one.began(6.0, 14)
    for _ in range(14):
        one.ended(11.0, 5.0, Sign.LOST)
    assert one.window.size < 10


@pytest.mark.parametrize(("lost", "cut"), [(15, False), (18, True)])
def test_a_window_is_cut_when_more_are_lost_than_one_in_ten_and_chance(lost, cut):
    one = place()
    one.window.size, one.window.slow_start = 100.0, False
    one.began(0.0, 100)
    for nth in range(100):
        one.ended(1.0, 1.0, Sign.LOST if nth < lost else Sign.ANSWERED)
    assert (one.window.size < 100) is cut


def test_a_provider_that_answers_nothing_is_asked_little():
    made = run(place(), Provider(None, None, 0.3, 0.25, hang=1.0), seconds=120)
    assert made.in_flight[-1] <= 3


@pytest.mark.parametrize("away", [(0.0, 10.0), (30.0, 40.0)])
def test_it_comes_back_soon_to_a_provider_that_refused_all_for_a_while(away):
    """Such a refusal is no word about the rate: minutes at one in two seconds would follow."""
    made = run(place(), Provider(80, None, 0.05, 0.3, away=away), seconds=90, late=0.02)
    assert made.rate(away[1] + 20, 90) >= 0.85 * 80
    assert made.share_refused <= 0.03


def test_one_refusal_while_hardly_anything_is_sent_says_little_of_what_may_be_sent_later():
    one = place()
    one.began(0.0, 2)
    one.throttled(0.1, 1.0)
    one.ended(0.1, 0.1, Sign.ANSWERED)
    assert one.room(1.2) == 1
    assert one.learnt(1).rate is None  # It is left to nobody.
    made = run(one, PROVIDERS["C"](), seconds=60)
    assert made.rate(20, 60) >= 0.85 * 80


def test_a_provider_that_takes_less_from_now_on_is_not_asked_for_more_again_and_again():
    provider = Provider(80, None, 0.05, 0.3, less=(30.0, 30.0))
    made = run(place(), provider, seconds=90, late=0.02)
    assert made.rate(50, 90) >= 0.85 * 30
    assert made.share_refused <= 0.03


def test_what_began_together_does_not_go_round_together_for_ever():
    """Everybody else waits behind a burst; and one that takes the same time for each keeps it."""
    steady = Provider(None, None, 2.0, 0.0)
    made = run(place(1000.0, max_in_flight=1000), steady, seconds=30, late=0.02)
    tenths = [0] * 300
    for at in made.starts:
        tenths[int(at * 10)] += 1
    assert made.rate(10, 30) >= 0.99 * 500
    assert max(tenths[100:]) <= 2 * 50  # 225 when all that have room may start.


def test_a_window_that_looks_for_its_size_waits_for_nothing():
    one = place()
    one.began(0.0, 10)
    for _ in range(10):
        one.ended(2.0, 2.0, Sign.ANSWERED)
    assert one.room(2.0) == 20


def test_few_may_always_start_together():
    one = place(1000.0, max_in_flight=3)
    for turn in range(20):
        one.began(turn, 3)
        assert one.room(turn) == 0
        for _ in range(3):
            one.ended(turn + 0.5, 0.5, Sign.ANSWERED)
        assert one.room(turn + 0.5) == 3


# ---- One by one ----


def test_being_told_off_holds_and_cuts_once_for_all_that_was_sent_at_one_rate():
    one = place(100.0)
    one.began(10.0, 5)
    for _ in range(5):
        one.throttled(10.1, 1.0)
    assert one.in_flight == 0
    assert one.room(10.5) == 0
    assert one.room(11.2) > 0
    assert one.pacer.rate == pytest.approx(0.92 * 0.7 * 97.5)


def test_a_long_hold_is_left_to_the_row_which_an_operator_may_lift():
    one = place()
    one.began(0.0)
    one.throttled(0.1, 3600.0)
    assert one.room(1.0) == 0
    assert one.room(2.2) > 0


def test_what_was_not_asked_costs_no_start():
    one = place(10.0)
    one.began(5.0, 2)
    assert one.room(5.0) == 0
    one.ended(5.0, 0.01, Sign.NOTHING)
    assert one.room(5.0) == 1
    assert one.latency is None


def test_what_was_not_asked_is_not_spaced():
    """Of a campaign most of whose customers withdrew, the others go out no later for it."""
    one = place(1000.0, max_in_flight=20)
    one.began(0.0, 20)
    for _ in range(20):
        one.ended(10.0, 10.0, Sign.ANSWERED)
    assert one.room(10.0) == 10
    one.began(10.0, 10)
    assert one.room(10.0) == 0
    for _ in range(10):
        one.ended(10.0, 0.0, Sign.NOTHING)
    assert one.room(10.0) == 10


def test_no_more_is_under_way_than_was_declared():
    one = place(1000.0, max_in_flight=3)
    one.began(1.0, 3)
    assert one.room(2.0) == 0
    assert one.wait(2.0) is None
    one.ended(2.0, 0.5, Sign.ANSWERED)
    assert one.room(2.0) == 1


def test_a_change_of_what_is_declared_is_kept_to_at_once():
    one = place(100.0)
    one.declare(Declared(rate=10.0), 1)
    assert one.pacer.rate == pytest.approx(9.75)
    one.declare(Declared(rate=40.0), 2)
    assert one.pacer.rate == pytest.approx(19.5)


def test_what_was_learnt_before_is_where_it_begins():
    one = control(Declared(), now=0.0, initial=10, drainers=2, learnt=Learnt(200, 60.0))
    assert one.window.size == 50
    assert one.pacer.rate == 30
    assert one.learnt(2).rate == 60


def test_compat_sends_thirty_and_waits_for_the_last_of_them():
    one = place(mode="compat")
    assert isinstance(one, Batches)
    one.began(0.0, 20)
    assert one.room(0.05) == 10  # It is still being filled.
    one.began(0.05, 10)
    assert one.room(5.0) == 0
    for _ in range(29):
        one.ended(2.0, 2.0, Sign.ANSWERED)
    assert one.room(200.0) == 0
    assert one.wait(200.0) is None
    assert one.room(300.0) == 30  # Five minutes are the most that it waits.
    one.ended(250.0, 250.0, Sign.ANSWERED)
    assert one.room(250.0) == 30


def test_compat_is_as_slow_as_the_slowest_of_each_batch():
    made = run(place(mode="compat"), PROVIDERS["A"](), seconds=60)
    assert made.rate(0, 60) < 30 / 2
    adaptive = run(place(80.0), PROVIDERS["A"](), seconds=60)
    assert adaptive.rate(0, 60) >= 5 * made.rate(0, 60)
    assert isinstance(place(), Adaptive)
