"""Missing, stale and rescaled gradients on simulated steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from faulty import cosine, sgd
from faulty import products as products_of
from motions import motions_of, whole

from spherical_motion.comparison.laws import scale_changes, silence, stale
from spherical_motion.comparison.laws.scale_change import SPAN, gaps_in
from spherical_motion.vocabulary import Stage

STEPS = 160
SETTINGS = [(0.1, 5e-3, 0.9)] * STEPS


def motions(tmp_path, products, settings=SETTINGS, **kwargs):
    kwargs.setdefault("dtype", "float64")
    return motions_of(tmp_path / "run", products, settings, **kwargs)


def silent(products: np.ndarray, start: int, kind: str) -> np.ndarray:
    """No gradient from a step on: not there, all zeros, or there with weights that stand still."""
    products = products.copy()
    rest = products[start, 0]
    gradient = {"absent": np.nan, "zeros": 0.0, "frozen": 1.0}[kind]
    moved = 0.0 if kind != "zeros" else -1e-3
    products[start:] = [rest, moved * rest, moved**2 * rest, *[gradient] * 3]
    return products


def test_a_healthy_group_is_never_silent(tmp_path) -> None:
    motion = motions(tmp_path, {"a": sgd(SETTINGS)})["a"]
    s = silence(motion, whole(motion))
    assert (s.samples, s.dead, s.absent, s.frozen) == (STEPS, 0.0, 0.0, 0.0)
    assert (s.dead_since, s.frozen_since) == (None, None)
    assert math.isnan(s.gradient_while_frozen)


@pytest.mark.parametrize("kind", ["absent", "zeros", "frozen"])
def test_silence_is_dated_and_told_apart(tmp_path, kind) -> None:
    motion = motions(tmp_path, {"a": silent(sgd(SETTINGS), 90, kind)})["a"]
    s = silence(motion, whole(motion))
    assert s.dead_since == (None if kind == "frozen" else 90)
    assert s.frozen_since == (None if kind == "zeros" else 90)
    assert s.absent_at_end == (kind == "absent")
    assert s.dead == pytest.approx(0.0 if kind == "frozen" else 70 / STEPS)
    if kind == "frozen":
        assert s.gradient_while_frozen == 1.0
    if kind == "absent":
        assert s.gradient_while_frozen == 0.0


def test_a_short_or_broken_silence_has_no_beginning(tmp_path) -> None:
    products = sgd(SETTINGS)
    at_end = silent(products, STEPS - 10, "zeros")
    middle = products.copy()
    middle[40:80] = silent(products, 40, "zeros")[40:80]
    found = motions(tmp_path, {"end": at_end, "middle": middle})
    assert [silence(m, whole(m)).dead_since for m in found.values()] == [None, None]
    assert silence(found["middle"], whole(found["middle"])).dead == 0.25
    assert silence(found["middle"], Stage(0, 80, None)).dead_since == 40


def test_a_stretch_without_motion_that_ended_is_told(tmp_path) -> None:
    products = sgd(SETTINGS)
    products[40:80] = silent(products, 40, "absent")[40:80]
    at_zero = SETTINGS[:40] + [(0.0, 5e-3, 0.9)] * 40 + SETTINGS[80:]
    motion = motions(tmp_path / "a", {"a": products})["a"]
    assert silence(motion, whole(motion)).rested == (40, 80)
    assert silence(motion, Stage(0, 80, None)).rested is None
    meant = motions(tmp_path / "b", {"a": products}, at_zero)["a"]
    assert silence(meant, whole(meant)).rested is None


SETTINGS_LONG = [(0.1, 5e-3, 0.9)] * 2000


@pytest.mark.parametrize("used", [0.04, 0.3])
def test_a_part_that_is_used_now_and_then_is_silent_by_chance(tmp_path, used) -> None:
    steps = len(SETTINGS_LONG)
    resting = np.random.default_rng(0).random(steps) >= used
    resting[1000:1006], resting[-300:] = False, True
    products = sgd(SETTINGS_LONG)
    products[resting] = [1.0, 0.0, 0.0, *[np.nan] * 3]
    motion = motions(tmp_path, {"a": products}, SETTINGS_LONG)["a"]
    for stop in (1000, steps - 300 + (50 if used < 0.1 else 5)):
        found = silence(motion, Stage(0, stop, None))
        assert (found.dead_since, found.frozen_since, found.rested) == (None, None, None)
    found = silence(motion, Stage(0, steps, None))
    assert found.dead_since == found.frozen_since == np.flatnonzero(~resting)[-1] + 1


def test_parts_that_are_used_in_turns_are_not_dead_between_them(tmp_path) -> None:
    products = sgd(SETTINGS)
    for start in range(0, STEPS, 40):
        products[start + 20 : start + 40] = [1.0, 0.0, 0.0, *[np.nan] * 3]
    motion = motions(tmp_path, {"a": products})["a"]
    found = silence(motion, whole(motion))
    assert (found.dead_since, found.frozen_since, found.rested) == (None, None, None)


def test_a_rate_of_zero_freezes_and_is_named(tmp_path) -> None:
    settings = SETTINGS[:80] + [(0.0, 5e-3, 0.9)] * 80
    motion = motions(tmp_path, {"a": sgd(settings)}, settings)["a"]
    s = silence(motion, whole(motion))
    assert (s.frozen_since, s.rate_is_zero, s.gradient_while_frozen) == (80, 1.0, 0.0)


def repeated(every: int) -> np.ndarray:
    """Steps of which some are made with the gradient of the step before; the others are fresh."""
    rng = np.random.default_rng(0)
    w, v, g = rng.standard_normal(50), np.zeros(50), np.zeros(50)
    rows = []
    for t in range(STEPS):
        if not t or t % every:
            g = rng.standard_normal(50) / 50
        v = 0.9 * v + g + 5e-3 * w
        rows.append(products_of(w, w - 0.1 * v, g))
        w = w - 0.1 * v
    return np.array(rows)


def test_a_stale_gradient_is_found_at_its_steps(tmp_path) -> None:
    healthy = motions(tmp_path / "h", {"a": sgd(SETTINGS)})["a"]
    s = stale(healthy, whole(healthy))
    assert (s.pairs, s.same, s.share) == (STEPS - 1, 0, 0.0)
    products = repeated(4)
    motion = motions(tmp_path / "s", {"a": products})["a"]
    s = stale(motion, whole(motion))
    assert (s.same, s.steps) == (STEPS // 4 - 1, (4, 8, 12, 16, 20))
    assert s.share == pytest.approx(39 / 159)
    products[:, 4] *= 1.0 + np.arange(STEPS) * 1e-15
    motion = motions(tmp_path / "n", {"a": products})["a"]
    assert stale(motion, whole(motion)).same == 0


def test_gradients_of_the_same_size_are_not_stale(tmp_path) -> None:
    """All entries clipped to ±1e-3: |g|² is the same number at each step, and g is not."""
    products = sgd(SETTINGS)
    products[:, 4] = 200 * 1e-6
    motion = motions(tmp_path, {"a": products})["a"]
    s = stale(motion, whole(motion))
    assert (s.pairs, s.same) == (STEPS - 1, 0)


def test_the_same_gradient_at_weights_that_did_not_move_is_not_stale(tmp_path) -> None:
    motion = motions(tmp_path, {"a": silent(sgd(SETTINGS), 100, "frozen")})["a"]
    assert stale(motion, whole(motion)).same == 0


def groups(size, settings=SETTINGS, count: int = 4) -> dict[str, np.ndarray]:
    """Groups whose gradients vary together and each on its own, times `size`."""
    common = np.random.default_rng(99).standard_normal(STEPS)
    scale = np.array([size(step) for step in range(STEPS)])
    found = {}
    for i in range(count):
        found[f"g{i}"] = sgd(settings, seed=i, norm0=1.0 + i)
        own = np.random.default_rng(i).standard_normal(STEPS)
        found[f"g{i}"][:, 4] *= (scale * np.exp(0.2 * common + 0.2 * own)) ** 2
    return found


@pytest.mark.parametrize("factor", [65536.0, 32**-0.5, 3.0, 0.4])
@pytest.mark.parametrize("kind", ["scale", "plain"])
def test_a_change_at_once_is_found_with_step_and_factor(tmp_path, factor, kind) -> None:
    products = groups(lambda t: factor if t >= 97 else 1.0)
    found = scale_changes(motions(tmp_path, products, kind=kind).values())
    assert len(found) == 1
    assert abs(found[0].step - 97) <= 1
    assert found[0].factor == pytest.approx(factor, rel=0.25)
    assert (found[0].groups, found[0].known) == (4, 4)
    assert found[0].spread < 0.2


@pytest.mark.parametrize(
    "size",
    [
        lambda t: 1.0,
        lambda t: math.exp(-t / 20.0),  # a fade by 3,000 in all
        lambda t: 1.0 + t / 20.0,  # labels that become noisier
        lambda t: 1.0 + 9.0 * (t % 13 == 0),  # single large batches
        lambda t: math.exp(math.sin(t / 8.0)),
    ],
    ids=["none", "fade", "ramp", "single", "waves"],
)
def test_no_slow_or_single_change_is_found(tmp_path, size) -> None:
    assert scale_changes(motions(tmp_path, groups(size)).values()) == ()


def test_a_change_of_one_group_or_with_the_schedule_is_none(tmp_path) -> None:
    products = groups(lambda t: 1.0)
    products["g1"] = groups(lambda t: 50.0 if t >= 97 else 1.0)["g1"]
    assert scale_changes(motions(tmp_path / "one", products).values()) == ()
    settings = SETTINGS[:80] + [(0.01, 5e-3, 0.9)] * 80
    products = groups(lambda t: 0.3 if t >= 85 else 1.0, settings)
    assert scale_changes(motions(tmp_path / "drop", products, settings).values()) == ()


def test_groups_that_come_and_go_are_no_change(tmp_path) -> None:
    products = groups(lambda t: 1.0)
    products["g0"][:, 4] *= 1e8
    products["g0"] = silent(products["g0"], 80, "absent")
    assert scale_changes(motions(tmp_path, products).values()) == ()


def test_the_factor_is_that_of_the_change_where_the_gradient_fades_behind_it(tmp_path) -> None:
    faded = groups(lambda t: 1.0 if t < 97 else max(64.0 * math.exp((97 - t) / 4.0), 1e-4))
    (found,) = scale_changes(motions(tmp_path, faded).values())
    assert abs(found.step - 97) <= 1
    assert found.groups == 4
    assert found.factor == pytest.approx(64.0, rel=0.4)


def test_no_change_in_many_random_runs() -> None:
    """Random walks, heavy tails and correlated noise: 300 lines of 400 samples."""
    rng = np.random.default_rng(1)
    none = np.zeros(400, bool)
    for run in range(300):
        noise = rng.standard_t(3, 400) if run % 3 == 0 else rng.standard_normal(400)
        if run % 2:
            noise = np.convolve(noise, 0.5 ** np.arange(8), mode="same")
        line = rng.uniform(0.02, 0.5) * noise + rng.normal(0, 0.01) * np.arange(400)
        assert gaps_in(line, none) == []


def test_the_gap_of_two_lines_is_that_of_a_slow_fit() -> None:
    rng = np.random.default_rng(0)
    line = rng.normal(0.0, 0.05, 200) + 0.01 * np.arange(200)
    line[120:] += 1.3
    place = np.arange(SPAN)
    slow = []
    for t in range(SPAN, 200 - SPAN + 1):
        before = np.polyval(np.polyfit(place, line[t - SPAN : t], 1), SPAN - 0.5)
        behind = np.polyval(np.polyfit(place, line[t : t + SPAN], 1), -0.5)
        slow.append(behind - before)
    assert gaps_in(line, np.zeros(200, bool)) == [SPAN + int(np.argmax(np.abs(slow)))] == [120]


def test_nothing_to_compare(tmp_path) -> None:
    assert scale_changes([]) == ()
    settings = cosine(0.1, 5e-3, 0.9, 30)
    assert scale_changes(motions(tmp_path, {"a": sgd(settings)}, settings).values()) == ()
