"""Damage a run in every way that a disk, a copy, another program or a person may, and use it.

`mutate(directory, seed)` damages a run; the same seed does the same. `faults(directory)` uses it as
a user does and returns what went wrong: an error that is not ours, or a wait.

    python -m fuzzing 0 3000    # damage and use a run 3,000 times; needs PYTHONPATH=src:tests
"""

from fuzzing.mutations import KINDS, mutate
from fuzzing.uses import SECONDS, USES, faults

__all__ = ["KINDS", "SECONDS", "USES", "faults", "mutate"]
