"""Third rung: each step is what the optimizer's rule and settings make of its gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.ladder.reasons import Because
from spherical_motion.comparison.ladder.said import names_text, settings_text, steps_text
from spherical_motion.comparison.laws import Fit, Mend, StepLaw
from spherical_motion.vocabulary import Reason

SPIKE = 1e-3
"""A single step that breaks the law of motion by less than this share of its largest term is not
worth a verdict."""


def step_differs(e: Evidence) -> Iterator[Reason]:
    """The steps are not those of the recorded rule and settings."""
    law = e.laws.step
    if law.first is not None and law.last is not None:
        yield from _stretch(law, law.first, law.last)
    elif law.spikes and law.worst > SPIKE:
        yield Because.SPIKES(
            first=law.spike_steps[0],
            steps=steps_text(law.spike_steps, law.spikes),
            spikes=law.spikes,
            pairs=law.pairs,
            worst=law.worst,
        )
    elif e.laws.mends:
        yield from _mended(e.laws.mends)


def _stretch(law: StepLaw, first: int, last: int) -> Iterator[Reason]:
    """A stretch of steps that the declared settings do not make."""
    fit = law.fit
    if fit is not None and fit.explains and fit.changed:
        declared = _declared(fit)
        real = {name: getattr(fit, name).value for name in fit.changed}
        yield Because.OTHER_SETTINGS(
            first=fit.first,
            last=fit.last,
            real=settings_text(real),
            declared=settings_text({name: declared[name] for name in fit.changed}),
            residual=fit.residual,
        )
        others = [names for names in fit.possible if names != fit.changed]
        if others:
            yield Because.OR_ELSE(others=_alternatives(others))
    elif fit is not None and fit.explains and fit.form:
        yield Because.OTHER_FORM(
            first=fit.first, last=fit.last, form=fit.form, residual=fit.residual
        )
    else:
        yield Because.NO_SETTINGS(first=first, last=last, residual=law.median, allowed=law.allowed)


def _declared(fit: Fit) -> dict[str, float]:
    return dict(zip(("lr", "weight_decay", "momentum"), fit.declared, strict=True))


def _alternatives(sets: Iterable[Iterable[str]]) -> str:
    return " or ".join("another " + names_text(names) for names in sets)


def _mended(mends: tuple[Mend, ...]) -> Iterator[Reason]:
    """The balance law of Adam, which one other setting would mend."""
    best, *others = mends
    yield Because.MENDED(before=best.before, real=_setting(best), declared=f"{best.declared:.4g}")
    if others:
        yield Because.OR_ELSE(others=" or ".join(map(_setting, others)))


def _setting(mend: Mend) -> str:
    if math.isnan(mend.value.value):
        return f"another {names_text([mend.setting])}"
    return settings_text({mend.setting: mend.value.value})
