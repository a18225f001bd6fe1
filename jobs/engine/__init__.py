"""The engine: one loop that claims works, runs their steps and settles what they came to.

In the order of a work's way: `look` sees what is due, `claim` takes it, `trying` (with `calling`
and `threads`) runs its step, `verdict` says what the outcome means, `settler` and `settle` write it
down. `drainer` is the loop around them, `link` its connection, `beat` its sign of life, and
`rescue` takes from the dead. `clean` makes text fit for Postgres.
"""
