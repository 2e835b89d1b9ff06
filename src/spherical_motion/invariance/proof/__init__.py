"""The proof: candidates are rescaled by finite factors, and the outputs must stay.

In: candidates from the search, and the model. Out: a `Certificate` with those that hold, their
defects at the user's weights, and the groups they form.
"""

from spherical_motion.invariance.proof.assemble import (
    GRANULARITIES,
    Granularity,
    covered_entries,
    groups_of,
    members_name,
)
from spherical_motion.invariance.proof.certify import Certificate, certified
from spherical_motion.invariance.proof.defect import Defects, measured_defects
from spherical_motion.invariance.proof.rescale import Base, rescaled
from spherical_motion.invariance.proof.suspects import INFLATION, confirmed_suspects
