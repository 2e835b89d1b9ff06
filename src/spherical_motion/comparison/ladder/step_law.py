"""Third rung: each step is what the optimizer's rule and settings make of its gradient.

Two witnesses: the six products of SGD, which test every pair of neighbouring steps, and the audit,
which replays single steps of every optimizer. Settings that explain the steps are named first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from spherical_motion.comparison.evidence import Evidence
from spherical_motion.comparison.ladder.onset import seen_before
from spherical_motion.comparison.ladder.reasons import StepReason
from spherical_motion.comparison.ladder.said import apart, names_text, settings_text, steps_text
from spherical_motion.comparison.laws import Fit, Mend, StepLaw
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.comparison.laws.limits import loses_steps
from spherical_motion.comparison.laws.planned import Planned
from spherical_motion.comparison.laws.step_fit import StepFit
from spherical_motion.vocabulary import Reason

SPIKE = 1e-3
"""A single step that breaks the law of motion by less than this share of its largest term is not
worth a verdict."""


def step_differs(e: Evidence) -> Iterator[Reason]:
    """The steps are not those of the recorded rule and settings, and since when."""
    reasons = tuple(_how_steps_differ(e))
    yield from reasons
    if reasons:
        yield from seen_before(e, reasons[0])


def _how_steps_differ(e: Evidence) -> Iterator[Reason]:
    law, audited = e.laws.step, e.laws.audited
    fit = law.fit
    if fit is not None and fit.explains:
        yield from _explained(fit)
    elif audited.miscounted is not None:
        yield StepReason.MISCOUNTED(
            first=audited.miscounted, counter=audited.counter, taken=audited.taken
        )
    elif audited.differing:
        yield from _audited(audited)
    elif law.first is not None and law.last is not None:
        kind = StepReason.TOO_FEW_TO_FIT if fit is None else StepReason.NO_SETTINGS
        yield kind(first=law.first, last=law.last, residual=law.broken, allowed=law.broken_allowed)
    elif law.spikes and law.worst > SPIKE:
        yield _spikes(law)
    elif loses_steps(audited):
        yield StepReason.LOST(lost=audited.lost)
    elif e.laws.mends and not _replayed_late(e):
        yield from _mended(e.laws.mends)
    elif e.laws.plan is not None:
        yield _not_as_planned(e.laws.plan)


def _replayed_late(e: Evidence) -> bool:
    """Whether the rule made a step of the stage's second half, which is harder evidence."""
    last = e.laws.audited.last
    return last is not None and last >= (e.stage.start + e.stage.stop) / 2


def _explained(fit: Fit) -> Iterator[Reason]:
    """A stretch of steps that other settings, or another rule, make."""
    if not fit.changed:
        yield StepReason.OTHER_FORM(
            first=fit.first, last=fit.last, form=fit.form, residual=fit.residual
        )
        return
    names: tuple[str, ...] = ("lr", "weight_decay", "momentum")
    declared = dict[str, float](zip(names, fit.declared, strict=True))
    yield StepReason.OTHER_SETTINGS(
        first=fit.first,
        last=fit.last,
        real=settings_text({name: getattr(fit, name).value for name in fit.changed}),
        declared=settings_text({name: declared[name] for name in fit.changed}),
        residual=fit.residual,
    )
    others = [names for names in fit.possible if names != fit.changed]
    if others:
        yield StepReason.OR_ELSE(others=_alternatives(others))


def _alternatives(sets: Iterable[Iterable[str]]) -> str:
    return " or ".join("another " + names_text(names) for names in sets)


def _spikes(law: StepLaw) -> Reason:
    return StepReason.SPIKES(
        first=law.spike_steps[0],
        steps=steps_text(law.spike_steps, law.spikes),
        spikes=law.spikes,
        pairs=law.pairs,
        worst=law.worst,
    )


def _audited(audited: AuditedSteps) -> Iterator[Reason]:
    """Replayed steps that are not the rule's."""
    fit, first = audited.fit, audited.first
    counts = {
        "first": audited.differing[0] if first is None else first,
        "differing": len(audited.differing),
        "replayed": audited.replayed,
    }
    if fit is None or not fit.kind:
        yield StepReason.AUDIT_DIFFERS(**counts, length=audited.length, cosine=audited.cosine)
    elif fit.kind == "rate":
        yield StepReason.AUDIT_RATE(**counts, factor=fit.factor, lr=fit.lr)
    elif fit.kind == "decay" and math.isnan(fit.real_decay):
        yield StepReason.AUDIT_DECAY(**counts, pull=abs(fit.pull))
    else:
        real, declared = _real(fit), _recorded(fit)
        yield StepReason.AUDIT_SETTINGS(
            **counts,
            real=settings_text(real),
            declared=settings_text({name: declared[name] for name in real}),
        )
    if audited.onset is not None and audited.onset[0] is not None:
        yield StepReason.ONSET(before=audited.onset[0])


def _real(fit: StepFit) -> dict[str, float]:
    """The settings with which the steps were made, those that a fit tells."""
    found: dict[str, float] = {}
    if fit.kind == "momentum":
        found["momentum"] = fit.real_momentum
    if fit.kind == "both":
        found["lr"] = fit.lr * fit.factor
    if fit.kind in ("decay", "both") and math.isfinite(fit.real_decay):
        found["weight_decay"] = fit.real_decay
    return found


def _recorded(fit: StepFit) -> dict[str, float]:
    return {"lr": fit.lr, "weight_decay": fit.weight_decay, "momentum": fit.momentum}


def _mended(mends: tuple[Mend, ...]) -> Iterator[Reason]:
    """The balance law of Adam, which one other setting would mend."""
    best, *others = mends
    yield StepReason.MENDED(
        before=best.before, real=_setting(best), declared=f"{best.declared:.4g}"
    )
    if others:
        yield StepReason.OR_ELSE(others=" or ".join(map(_setting, others)))


def _setting(mend: Mend) -> str:
    if math.isnan(mend.value.value):
        return f"another {names_text([mend.setting])}"
    return settings_text({mend.setting: mend.value.value})


def _not_as_planned(plan: Planned) -> Reason:
    """Rates that are not the planned ones, and how they follow from them."""
    how = plan.how
    said = ""
    if math.isfinite(how.times) and how.times != 1.0:
        said = f", as if the scheduler was stepped {how.times:.3g} times as often"
    elif how.late:
        said = (
            f", as if the schedule ran {abs(how.late)} steps {'late' if how.late > 0 else 'early'}"
        )
    elif math.isfinite(how.factor) and how.factor != 1.0:
        said = f", {how.factor:.3g} times the planned ones"
    first = 0 if plan.first is None else plan.first
    at = "" if plan.farthest in (None, first) else f" at step {plan.farthest:,}"
    return StepReason.NOT_AS_PLANNED(
        first=first,
        used=apart(plan.used, plan.planned),
        planned=apart(plan.planned, plan.used),
        at=at,
        how=said,
    )
