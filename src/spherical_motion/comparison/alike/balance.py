"""The balance law of many groups over one stage at once, and what moves their norms now.

As `comparison.balance` and `comparison.account`, whose numbers these are. The windows are the same
for all groups, since their settings are.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from spherical_motion import theory
from spherical_motion.comparison.account import (
    decay_share_of,
    hides_decay,
    law_of_moves,
    mended_by_change,
    why_inseparable,
)
from spherical_motion.comparison.alike.motions import Alike, steps_first
from spherical_motion.comparison.alike.sums import Array, Estimates, mean_ratios
from spherical_motion.comparison.balance import (
    balance_estimate,
    fewest_steps,
    newest_weight,
    real_decay_share,
    why_missed,
    why_unsure,
)
from spherical_motion.comparison.forces import Forces, TugOfWar
from spherical_motion.comparison.motion import Motion
from spherical_motion.estimates import Estimate
from spherical_motion.theory.balance_by_step import shared_moves
from spherical_motion.theory.balance_law import SMALL_RATE, AverageLaw, ReadableLaw
from spherical_motion.theory.balance_over_window import (
    ROUNDED,
    Balance,
    too_fine,
    why_unknown,
    why_unsaid,
)
from spherical_motion.theory.late_pull import late, mean_pull, start_up
from spherical_motion.theory.rounding import ROUNDOFF, rounding_errors
from spherical_motion.theory.settings import Steps
from spherical_motion.vocabulary import Stage
from spherical_motion.vocabulary.hyperparameters import pull_scale


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def tugs_of_war(found: Alike, stage: Stage) -> list[TugOfWar | None]:
    """`tug_of_war` of each group; None for those that must be looked at alone."""
    rows = slice(found.place(stage.start), found.place(stage.stop))
    settings = found.first[rows]
    if found.first.no_balance is not None or not len(settings):
        return [None] * len(found)
    begins = found.place(stage.start + start_up(settings.momentum))
    here, frame = found.rows(slice(begins, rows.stop)), found.first[begins : rows.stop]
    if stage.steps < fewest_steps(settings) or not _in_a_row(here, frame):
        return [None] * len(found)
    return _tugs(here, frame, over=bool(found.steps[-1] >= stage.stop))


def _in_a_row(here: Alike, frame: Motion) -> bool:
    """Whether every step but the first shows what the one before left, in every group."""
    if len(here.steps) < 2 or (np.diff(here.counted) != 1).any() or (here.lr <= 0).any():
        return False
    if (here.lr[:-1] < SMALL_RATE * here.lr[1:]).any():
        return False
    plain = here.momentum == 0.0
    if not isinstance(law_of_moves(frame), (AverageLaw, ReadableLaw)):
        return False
    whole = all(np.isfinite(part[0]).all() for part in (here.turned, here.loss, here.grown))
    return whole and bool(plain.any() == plain.all())


def _tugs(here: Alike, frame: Motion, *, over: bool) -> list[TugOfWar | None]:
    """The tug-of-war in a window, whose settings are those of `frame`."""
    window = late(here.momentum)
    recent, now = here.rows(window), frame[window]
    growths = _growths(recent).each()
    unsure = why_unsure(frame, len(frame), changed=bool(np.isfinite(here.change[0]).any()))
    newest = newest_weight(frame) if np.isnan(here.change[0]).all() else None
    first, stop = int(recent.steps[0]), int(recent.steps[-1]) + 1
    beta2, mendable = here.hp.beta2, mended_by_change(frame)
    shared = {
        "pairs": int(np.isfinite(here.written[0]).sum()),
        "over": over,
        "window": stop - first,
        "until": stop,
        "idle": 0.0,
        "real_decay": real_decay_share(frame),
        "terms": len(frame),
        "young": math.nan if beta2 is None else 1.0 / (1.0 - beta2),
        "inseparable": why_inseparable(now),
    }
    balances = _balances(here, frame)
    parts = zip(
        balances,
        growths,
        _pulls_of(recent, now),
        _forces(recent, now, [growth.value / 2.0 for growth in growths]),
        mean_ratios(here.turned, here.law_sum, 0, slow=True).rooted().each(),
        mean_ratios(recent.turned, recent.law_sum, 0, slow=True).rooted().each(),
        strict=True,
    )
    found: list[TugOfWar | None] = []
    for balance, growth, (pull, share), forces, interval, latest in parts:
        unknown = balance.unknown or unsure
        left_out = newest if balance.neglects else None
        ratio = Estimate() if unknown else balance_estimate(interval, balance, 0.0, left_out)
        tug = TugOfWar(
            **shared,
            growth=growth,
            balance=ratio,
            pull=pull,
            decay_share=share,
            amplification=balance.amplification,
            forces=forces,
            exact=not balance.neglects,
            mendable=bool(balance.neglects) and mendable,
            unknown=unknown,
            neglects=balance.neglects,
        )
        if unexplained := why_missed(tug, latest if tug.exact else Estimate()):
            only = Forces(growth=forces.growth)
            tug = dataclasses.replace(tug, forces=only, unexplained=unexplained)
        found.append(tug)
    return found


def _balances(here: Alike, frame: Motion) -> list[Balance]:
    """`theory.balance` of each group in a window."""
    hp, facts = here.hp, theory.GroupFacts()
    s = Steps(frame.lr, frame.felt_decay, frame.momentum, hp.beta2)
    law, moves = shared_moves(hp, steps_first(here.gram), here.counted, s, None, facts)
    alone = isinstance(law, ReadableLaw) or frame.momentum[0] == 0.0
    used = slice(0 if alone else 1, len(frame))  # the first step's own past is not in the window
    inner, gram = law.inner(moves).T[:, used], here.gram[:, used]
    lr, own_decay, momentum = frame.lr[used], frame.felt_decay[used], frame.momentum[used]
    s = Steps(lr, own_decay, momentum, hp.beta2)
    weight = s.lr * gram.ww
    whole, squares = weight.sum(axis=1), gram.ww.sum(axis=1)
    scale = pull_scale(hp, s.momentum)
    inward = s.lr * scale * inner
    decay = weight * own_decay * (1.0 if hp.decoupled else scale)
    if not hp.decoupled and law.preconditioned and own_decay.any():
        decay = np.full_like(decay, np.nan)
    pull = (inward + decay if hp.decoupled else inward).sum(axis=1) / whole
    growth = (2.0 * gram.wd + gram.dd).sum(axis=1) / squares
    size = gram.ww / squares[:, None]
    rate, decayed, kept = ((x * size).sum(axis=1) for x in (lr, own_decay, momentum))
    f, share = law.form(Steps(rate, decayed, kept, hp.beta2), facts)
    own = decay.sum(axis=1) / whole
    held, drawn, grown = 2.0 * rate * own, 2.0 * rate * pull, share * growth
    left = drawn + grown
    largest = np.fmax(np.fmax(np.abs(held), np.abs(drawn)), np.abs(grown))
    amplification = np.where(left != 0.0, largest / np.abs(left), np.inf)
    law_sum, change, measured = _law_sums(here, used)
    turned = here.turned[:, used].sum(axis=1)
    at_least = np.where(law_sum > 0, law_sum, turned)
    rounded = np.zeros(len(here))
    if here.first.dtype in ROUNDOFF:
        numel = here.first.group.numel
        rounded = rounding_errors(hp, gram.ww, s, here.first.dtype, numel)
        rounded = np.where(at_least > 0, rounded / at_least, 0.0)
    neglects = law.neglects
    if law.changes and measured:
        neglects = (
            "" if measured == 1.0 else f"{law.neglects}, known at {measured:.0%} of the steps"
        )
    ratio = np.sqrt(np.where(turned < 0.0, 0.0, turned) / law_sum)
    length = np.sqrt(here.gram.dd.mean(axis=1) / here.gram.ww.mean(axis=1))
    changed = np.where(law_sum != 0.0, change / law_sum, np.nan)
    memory = 1.0 / (1.0 - float(frame.momentum.max()))
    unmeasured = law.preconditioned and not np.isfinite(here.gram.wp[0]).any()
    columns = (pull, own, growth, f * left, amplification, changed, rounded, ratio, length, law_sum)
    found = []
    for numbers in zip(*(np.broadcast_to(x, len(here)).tolist() for x in columns), strict=True):
        p, d, g, expected, times, part, rounding, root, step, total = numbers
        one = Balance(
            pull=p, decay=d, growth=g, expected=expected, amplification=times, change_share=part,
            rounding=rounding, steps=used.stop - used.start, left_out=used.start,
            neglects=neglects,
        )  # fmt: skip
        unknown = why_unsaid(one, memory, unmeasured=unmeasured)
        if not unknown and rounding > ROUNDED:
            unknown = too_fine(here.first.dtype, rounding, step)
        unknown = unknown or why_unknown(law, hp, memory, one, total, measured)
        said = {"unknown": unknown} if unknown else {"ratio": root}
        found.append(dataclasses.replace(one, **said))
    return found


def _law_sums(here: Alike, used: slice) -> tuple[Array, Array, float]:
    """(Σ law, Σ change in it or NaN, share of the steps at which the change was measured)."""
    loss, grown, decay, change = (
        part[:, used] for part in (here.loss, here.grown, here.decay, here.change)
    )
    known = np.isfinite(change[0])
    counted = np.where(np.isnan(change), 0.0, change)
    law = loss + grown + np.where(np.isnan(decay), 0.0, decay) + counted
    rest = (law - np.where(np.isfinite(change), change, 0.0)).sum(axis=1)
    measured = float(known.mean())
    if not measured:
        return rest, np.full(len(here), np.nan), 0.0
    total = change[:, known].sum(axis=1) / measured
    return rest + total, total, measured


def _growths(recent: Alike) -> Estimates:
    """`growth_of` each group: nothing wrote the weights, so that the last step counts."""
    gram = recent.gram
    ended = (gram.ww[:, -1:] + 2.0 * gram.wd[:, -1:]) + gram.dd[:, -1:]
    ends = np.log(np.concatenate([gram.ww, ended], axis=1))
    steps = np.append(recent.steps, recent.steps[-1] + 1)
    return mean_ratios(np.diff(ends), np.diff(steps).astype(np.float64)[None], 0, slow=False)


def _pull(recent: Alike, now: Motion) -> tuple[Array, Array]:
    """(weight decay, p) at each sample: shapes (steps,) and (groups, steps)."""
    scale = pull_scale(recent.hp, now.momentum)
    inner = scale * recent.gram.wp / recent.gram.ww
    if recent.hp.decoupled:
        return now.felt_decay, now.felt_decay + inner
    if hides_decay(now):
        return np.full(now.felt_decay.shape, np.nan), inner
    return now.felt_decay * scale, inner


def _pulls_of(recent: Alike, now: Motion) -> list[tuple[Estimate, Estimate]]:
    """`pull_of` each group."""
    decay, pull = _pull(recent, now)
    if not np.isfinite(pull[0]).any():
        return [(Estimate(), Estimate())] * len(recent)
    found = mean_ratios(now.lr * pull, now.lr[None], 0, slow=True).each()
    own = mean_pull(decay, now.lr).value
    return [(one, decay_share_of(own, one)) for one in found]


def _forces(recent: Alike, now: Motion, growths: list[float]) -> list[Forces]:
    """`forces_of_window` of each group."""
    if not np.isfinite(recent.gram.wp[0]).any():
        return [Forces(growth=growth) for growth in growths]
    settings = Steps(now.lr, np.zeros(len(now)), now.momentum, now.hp.beta2)
    _, s = law_of_moves(now).form(settings, theory.GroupFacts())
    decay, pull = _pull(recent, now)
    size = 2.0 * recent.gram.ww * recent.growth_share
    rates = {
        "inward": now.lr / s * pull,
        "decay": np.broadcast_to(now.lr / s * decay, pull.shape),
        "loss": now.lr / s * (pull - decay),
        "change": recent.change / size,
        "missed": (recent.turned - recent.law_sum) / size,
    }
    columns = [_means(part).tolist() for part in rates.values()]
    found = []
    for growth, *numbers in zip(growths, *columns, strict=True):
        inward, own, loss, change, missed = numbers
        turning = growth + inward + (0.0 if math.isnan(change) else change) + missed
        found.append(
            Forces(
                inward=inward, decay=own, loss=loss, turning=turning, change=change, growth=growth
            )
        )
    return found


def _means(part: Array) -> Array:
    """Mean of the known steps of each group, which are the same in all of them."""
    known = np.isfinite(part[0])
    if not known.any():
        return np.full(len(part), np.nan)
    return (part if known.all() else part[:, known]).mean(axis=1)
