"""Garbage collection for a process that drains, where each work makes and drops many objects.

A full collection looks at every object of the process, and a started Django has some hundred
thousand of them that never go. Left alone it took a fifth of a drainer's CPU.
"""

import gc

# Objects made and not yet freed before the youngest are looked at; and how many such looks before
# the next older generation has its turn. Python's own numbers are 700, 10, 10.
THRESHOLDS = (20_000, 20, 20)


def spare_what_stays() -> None:
    """Never look at what is there by now again, and look at the rest less often.

    For the start of a process, once: what is garbage already stays for ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
