"""How invariant the certified cells are in the user's network: real weights, real ε."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherical_motion.invariance.probe import Prober
from spherical_motion.invariance.slices import totals_over
from spherical_motion.vocabulary.groups import Cell

__all__ = ["measured_defects"]

SEED = 0


def measured_defects(prober: Prober, cells: Sequence[Cell]) -> tuple[dict[Cell, float], list[str]]:
    """|⟨w, g⟩| / (‖w‖‖g‖) of each cell, and warnings where it had to be measured elsewhere.

    The ε of a norm layer leaves about ε/σ² of its input's variance σ², so the defect is linear in
    ε and falls as 1/‖w‖². One random cotangent is used; see `groups_of` for a layer's figure.

    Behind a gain initialized to zero nothing has a gradient. Then one more pass, with noise on
    the tensors that are all but zero, stands in for the cells concerned.
    """
    real = prober.backward(prober.real(), seed=SEED, norm_eps=None)
    defects = totals_over(real.rows, cells).defect()
    warnings: list[str] = []
    mute = [cell for cell, defect in zip(cells, defects, strict=True) if np.isnan(defect)]
    if mute:
        revived = prober.backward(prober.real(revive=True), seed=SEED, norm_eps=None)
        defects[np.isnan(defects)] = totals_over(revived.rows, mute).defect()
        names = list(dict.fromkeys(cell[0].parameter for cell in mute))
        warnings.append(
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {len(names)} parameter(s) "
            "with rows that have no gradient at the real weights; their defect was measured with "
            "noise on the tensors that are all but zero."
        )
    # Still mute: ⟨w, g⟩ is zero because g is, which is exact as far as it goes.
    return dict(zip(cells, np.nan_to_num(defects, nan=0.0).tolist(), strict=True)), warnings
