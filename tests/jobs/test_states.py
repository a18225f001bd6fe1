"""The machine is drawn once, and the drawing is true."""

import re
from pathlib import Path

from jobs.registry import queues
from jobs.states import CANCELLABLE, FINISHED, TRANSITIONS, State

DRAWING = Path(__file__).parents[2] / "docs" / "states.md"


def drawn() -> set[tuple[str, str]]:
    chart = re.search(r"## Work.*?```mermaid\n(.*?)```", DRAWING.read_text(), re.DOTALL)[1]
    arrows = re.findall(r"^\s*(\S+) --> (\w+|\[\*\])", chart, re.MULTILINE)
    return {(start, end) for start, end in arrows if "[*]" not in (start, end)}


def test_the_drawing_shows_every_move_and_no_other():
    assert drawn() == {(str(start), str(end)) for start, end in TRANSITIONS}


def test_nothing_leaves_a_finished_state_but_by_being_replayed():
    assert {(start, end) for start, end in TRANSITIONS if start in FINISHED} == {
        (state, State.PENDING) for state in FINISHED
    }


def test_only_deliveries_are_replayed_once_they_are_finished():
    finished = {
        queue.name for queue in queues().values() if set(FINISHED) & set(queue.model.replayable)
    }
    assert finished <= {"deliveries"}


def test_every_state_can_be_reached():
    reached = {State.SCHEDULED, State.PENDING} | {end for _, end in TRANSITIONS}
    assert reached == set(State)


def test_everything_that_is_not_being_done_can_be_cancelled():
    held = {State.PROCESSING, State.DISCARDING}
    assert set(CANCELLABLE) == set(State) - held - set(FINISHED)
