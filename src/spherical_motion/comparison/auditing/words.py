"""What an audit found, in words, with the cause that each finding names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

from spherical_motion.comparison.ladder.said import apart
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.comparison.laws.limits import (
    EPSILON_LARGE,
    EPSILON_SEEN,
    REWRITTEN,
    entries_clipped,
    left_in_eval_mode,
    loses_steps,
    norm_always_clipped,
)
from spherical_motion.comparison.laws.planned import Explanation, Planned
from spherical_motion.comparison.laws.step_fit import StepFit
from spherical_motion.notices import listed
from spherical_motion.records.files.events import Event
from spherical_motion.vocabulary import EventKind, Suspect


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an audit found.

    Attributes:
        words: in one clause.
        suspect: the cause that it names, or None.
    """

    words: str
    suspect: Suspect | None = None

    @property
    def alarm(self) -> bool:
        """Whether it asks for action."""
        return self.suspect is not None and self.suspect.alarm


def step_findings(found: AuditedSteps, dtype: str | None) -> Iterator[Finding]:
    """Steps that are not the rule's, and what rounding loses of them."""
    if found.onset is not None:
        before, first = found.onset
        fit = found.fit or StepFit()
        since = "" if before is None else f" (step {before:,} was)"
        suspect = Suspect.WRONG_SETTINGS if fit.kind else Suspect.STEP_DIFFERS
        words = _fit_words(fit)
        if found.miscounted is not None and found.miscounted <= first:
            suspect = Suspect.STEP_COUNTER
            words = "the length of Adam's steps follows their count, which is wrong"
        yield Finding(
            f"{len(found.differing)} of {found.replayed} replayed steps are not the rule's, from "
            f"step {first:,} on{since}: {words}",
            suspect,
        )
    if loses_steps(found):
        yield Finding(
            f"rounding to {dtype or 'their dtype'} loses {found.lost:.0%} of the steps, since they "
            "are below the spacing of the weights",
            Suspect.LOST_PRECISION,
        )
    if found.rewritten > REWRITTEN:
        yield Finding(
            f"the optimizer's step changes the gradient itself, by {found.rewritten:.2g} of it"
        )


def around_findings(found: AuditedSteps, *, plain: bool) -> Iterator[Finding]:
    """What stands around the steps: count, clipping, norm layers, tensors.

    Args:
        found: the audited steps.
        plain: nothing is claimed of the group. A norm layer that was frozen before the run began,
            as in fine-tuning, is then meant to be in eval mode.
    """
    if found.miscounted is not None:
        yield Finding(
            f"the optimizer has counted {found.counter:,.0f} steps where {found.taken:,.0f} were "
            f"taken, first at step {found.miscounted:,}",
            Suspect.STEP_COUNTER,
        )
    if found.clipped_share > 0.0:
        yield Finding(
            f"the gradient's global norm sits at {found.clipped_at:.4g} in "
            f"{found.clipped_share:.0%} of the audited steps: it is clipped there",
            Suspect.GRADIENT_CLIPPED if norm_always_clipped(found) else Suspect.NORM_CLIPPED,
        )
    if entries_clipped(found):
        yield Finding(
            f"several entries of the gradient have exactly the size {found.entries_at:.4g}, the "
            f"largest, first at step {found.peak_since:,}: they are clipped one by one",
            Suspect.GRADIENT_CLIPPED,
        )
    if left_in_eval_mode(found):
        yield Finding(
            "a norm layer that it feeds uses running statistics, first at step "
            f"{found.eval_since:,}: it is in eval mode",
            None if plain else Suspect.EVAL_MODE,
        )
    if found.epsilon >= EPSILON_SEEN:
        least = EPSILON_LARGE if found.epsilon >= EPSILON_LARGE else EPSILON_SEEN
        yield Finding(
            f"ε is {least:.0%} or more of variance + ε in the norm layers that it feeds",
            Suspect.EPSILON if found.epsilon >= EPSILON_LARGE else None,
        )
    if found.replaced is not None:
        yield Finding(
            f"the model or the optimizer has another tensor in its place since step "
            f"{found.replaced:,} at the latest",
            Suspect.NOT_STEPPED,
        )


def event_findings(events: Iterable[Event]) -> Iterator[Finding]:
    """Weights that were left behind, or that two optimizers step, by the events about them."""
    for event in events:
        at = f"from step {event['step']:,} on" if event.get("step") is not None else "at times"
        if event["kind"] == EventKind.NOT_STEPPED:
            yield Finding(f"{at} not stepped as watched: {event['why']}", Suspect.NOT_STEPPED)
        elif event["kind"] == EventKind.SECOND_OPTIMIZER:
            yield Finding(
                f"{at} another optimizer ({event['optimizer']}) steps these weights too",
                Suspect.WEIGHTS_WRITTEN,
            )


def plan_findings(mine: Planned, *, meant: bool) -> Iterator[Finding]:
    """Rates that are not the planned ones, unless they are meant so (`PlannedRun.meant`)."""
    at = "" if mine.farthest in (None, mine.first) else f" at step {mine.farthest:,}"
    if mine.first is not None and not meant:
        yield Finding(
            f"from step {mine.first:,} on the learning rate is not the planned one, "
            f"{apart(mine.used, mine.planned)} instead of {apart(mine.planned, mine.used)}{at}: "
            f"{_plan_words(mine.how)}",
            Suspect.WRONG_SETTINGS,
        )
    for name, value in (("weight decay", mine.weight_decay), ("momentum", mine.momentum)):
        if value is not None:
            step, planned, used = value
            yield Finding(
                f"from step {step:,} on the {name} is {used:.4g}; planned is {planned:.4g}"
            )


def _fit_words(fit: StepFit) -> str:
    decay = ""
    if fit.kind in ("decay", "both"):
        declared = f"declared {fit.weight_decay:.3g}"
        if math.isnan(fit.real_decay):
            decay = f"{fit.pull:+.2g} of the weights is added in each step ({declared})"
        else:
            real = 0.0 if abs(fit.real_decay) < 0.01 * fit.weight_decay else fit.real_decay
            decay = f"steps as if weight decay were {real:.3g}: {declared}"
    if fit.kind == "momentum":
        return f"steps as with momentum {fit.real_momentum:.3g}: declared {fit.momentum:.3g}"
    rate = f"{fit.factor:.3g} × the length of the rule's"
    if fit.kind == "decay":
        return decay
    if fit.kind == "rate":
        return f"{rate}, as with learning rate {fit.factor * fit.lr:.3g}: declared {fit.lr:.3g}"
    if fit.kind == "both":
        return f"{rate}, and {decay}"
    return "no learning rate and no weight decay makes them"


def _plan_words(how: Explanation) -> str:
    size = "" if how.factor == 1.0 or math.isnan(how.factor) else f"{how.factor:.4g} × the planned"
    if how.times == 0.0:
        words = "the scheduler is not stepped"
    elif how.times >= 1.0:
        words = f"the scheduler is stepped {how.times:.0f} times as often as planned"
    elif how.times > 0.0:
        words = f"the scheduler is stepped once in {1.0 / how.times:.0f} steps"
    elif how.late:
        when = "late" if how.late > 0 else "early"
        words = f"the schedule runs {abs(how.late):,} steps {when}"
    else:
        words = ""
    if not (words or size):
        return "no other use of the scheduler explains it"
    since = f" since step {how.since:,}" if how.since else ""
    return listed([part for part in (words, size) if part]) + since
