"""Check the numbers and arguments that users give, once and in the same words.

Every check takes `where` (the function or class the user called) and `name` (the argument), and
raises an error that names both, says what was expected, what was found and, with `remedy`, what to
do. `error` chooses the class: `OutOfDomain` where a formula does not hold, else `InvalidArgument`.
`validated` puts the first check before a public function: that its numbers are numbers.
"""

from spherical_motion.checks.entrance import validated
from spherical_motion.checks.values import (
    MOST_STEPS,
    Array,
    Number,
    above_zero,
    callable_or_none,
    count_of_steps,
    fits,
    fitted,
    held,
    not_negative,
    number,
    numbers_in,
    plain,
    seed,
    whole,
)

__all__ = [
    "MOST_STEPS",
    "Array",
    "Number",
    "above_zero",
    "callable_or_none",
    "count_of_steps",
    "fits",
    "fitted",
    "held",
    "not_negative",
    "number",
    "numbers_in",
    "plain",
    "seed",
    "validated",
    "whole",
]
