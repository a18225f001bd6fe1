"""What a process that drains asks of Python: rare garbage collections, and short turns of threads.

Each work makes and drops many objects. A full collection looks at every object of the process, and
a started Django has some hundred thousand of them that never go: left alone it took a fifth of a
drainer's CPU.

Jobs run on threads beside the loop. A thread that only computes keeps the interpreter for Python's
whole switch interval each time that another one comes back from the database: 5 ms by default,
thirty times in a chunk of an import, and once for each turn of the loop in which somebody waits.
"""

import gc
import sys

# Objects made and not yet freed before the youngest are looked at; and how many such looks before
# the next older generation has its turn. Python's own numbers are 700, 10, 10.
THRESHOLDS = (20_000, 20, 20)
TURN = 0.0005  # Seconds that a thread may go on while others wait. Python's own number is 0.005.


def prepare() -> None:
    """Never look at what is there by now again, look at the rest less often; and take turns.

    For the start of a process, once: what is garbage already stays for ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    sys.setswitchinterval(TURN)
