"""Continuity on simulated steps: exact without a writer, and every write is found."""

from __future__ import annotations

import numpy as np
import pytest
from faulty import cosine, sgd
from motions import motions_of, whole

from spherical_motion.comparison.laws import continuity_of
from spherical_motion.vocabulary import Stage

STEPS = 120
SETTINGS = [(0.1, 5e-3, 0.9)] * STEPS


def found(tmp_path, products, settings=SETTINGS, **kwargs):
    motion = motions_of(tmp_path / "run", {"conv": products}, settings, **kwargs)["conv"]
    return continuity_of(motion, whole(motion))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_healthy_steps_are_continuous_in_every_dtype(tmp_path, dtype) -> None:
    settings = cosine(0.1, 5e-3, 0.9, STEPS)
    c = found(tmp_path, sgd(settings, dtype=dtype), settings, dtype=dtype.__name__)
    assert (c.pairs, c.written, c.steps, c.whole) == (STEPS - 1, 0, (), True)
    assert np.isnan([c.write, c.resumed, c.gap.value]).all()


@pytest.mark.parametrize("share", [1e-11, 1e-6, 1e-2])
def test_a_write_is_found_at_its_step_with_its_size(tmp_path, share) -> None:
    products = sgd(SETTINGS, between=lambda t, w: w * (1.0 + share) if t % 40 == 9 else None)
    c = found(tmp_path, products, dtype="float64")
    assert (c.written, c.steps) == (3, (10, 50, 90))
    assert c.write == pytest.approx(share, rel=1e-3)


def test_a_slow_reference_agrees(tmp_path) -> None:
    """The same question asked of the weights themselves, step by step."""
    rng = np.random.default_rng(5)
    tampered = set(rng.choice(STEPS - 1, 30, replace=False).tolist())
    products = sgd(
        SETTINGS,
        dtype=np.float32,
        between=lambda t, w: w + np.float32(1e-6) * w if t in tampered else None,
    )
    c = found(tmp_path, products)
    after = [row[0] + 2.0 * row[1] + row[2] for row in products]
    broken = [
        t for t in range(1, STEPS) if abs(products[t][0] - after[t - 1]) > 1e-12 * after[t - 1]
    ]
    assert broken == sorted(t + 1 for t in tampered)
    assert (c.written, c.steps) == (len(broken), tuple(broken[:5]))


def test_a_write_before_the_first_step_of_a_stage_belongs_to_it(tmp_path) -> None:
    products = sgd(SETTINGS, between=lambda t, w: w * 1.1 if t == 59 else None)
    motion = motions_of(tmp_path / "run", {"a": products}, SETTINGS, dtype="float64")["a"]
    first, second = (continuity_of(motion, Stage(*ends, None)) for ends in ((0, 60), (60, STEPS)))
    assert (first.pairs, first.written) == (59, 0)
    assert (second.pairs, second.written, second.steps) == (60, 1, (60,))


def test_our_own_rescaling_and_a_resume_are_not_writes(tmp_path) -> None:
    products = sgd(SETTINGS, between=lambda t, w: w * 1.5 if t in (29, 59) else None)
    events = [("rescaled", 30), ("resumed", 60)]
    c = found(tmp_path, products, dtype="float64", events=events)
    assert (c.written, c.whole) == (0, False)
    assert c.resumed == pytest.approx(0.5)
    limited = [("rescaling_limited", 30), ("resumed", 60)]
    c = found(tmp_path / "limited", products, dtype="float64", events=limited)
    assert c.written == 0


def test_a_resume_from_the_own_checkpoint_changed_nothing(tmp_path) -> None:
    c = found(tmp_path, sgd(SETTINGS), dtype="float64", events=[("resumed", 60)])
    assert c.resumed < 1e-14


def test_a_huge_step_is_no_write(tmp_path) -> None:
    """Where |d| is a million times what is left, the sums cancel and are less exact."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(500) * 1e6
    rows = []
    for t in range(40):
        after = rng.standard_normal(500) * (1.0 if t % 2 == 0 else 1e6)
        d = after - w
        rows.append([w @ w, w @ d, d @ d, 0.0, 1.0, 0.0])
        w = after
    c = found(tmp_path, np.array(rows), SETTINGS[:40], dtype="float64")
    assert (c.pairs, c.written) == (39, 0)


def test_a_step_without_gradient_is_continuous_and_a_write_over_it_is_seen(tmp_path) -> None:
    products = sgd(SETTINGS)
    idle = np.array([products[60, 0], 0.0, 0.0, np.nan, np.nan, np.nan])
    products = np.vstack([products[:60], idle, products[60:-1]])
    assert found(tmp_path, products, dtype="float64").written == 0
    products[60, 0] *= 1.01
    assert found(tmp_path / "w", products, dtype="float64").steps == (60, 61)


def test_bursts_compare_neighbours_and_the_norm_between_bursts(tmp_path) -> None:
    long = [(0.05, 5e-3, 0.9)] * 1200
    sampled = [t for t in range(1200) if t % 20 < 2]
    healthy = found(tmp_path, sgd(long), long, steps=sampled, dtype="float64")
    assert (healthy.pairs, healthy.written, healthy.whole) == (60, 0, False)
    assert healthy.gap.low < 0.0 < healthy.gap.high
    # Something shrinks the weights between the bursts only.
    shrunk = sgd(long, between=lambda t, w: w * 0.9 if t % 20 == 10 else None)
    c = found(tmp_path / "shrunk", shrunk, long, steps=sampled, dtype="float64")
    assert c.written == 0
    assert c.gap.high < 0.0
    told = [("rescaled", t) for t in range(10, 1200, 20) if t in sampled]
    assert not told  # an event inside a gap is read by its step, whether that was sampled or not


def perturbed(size: float, seed: int = 3):
    """A perturbation of `size` of the weights, added and subtracted in their own dtype."""
    rng = np.random.default_rng(seed)

    def write(_: int, w: np.ndarray) -> np.ndarray:
        e = (size * np.linalg.norm(w) / np.sqrt(w.size) * rng.standard_normal(w.size)).astype(
            w.dtype
        )
        return (w + e).astype(w.dtype) - e

    return write


def noisy(size: float, seed: int = 3):
    rng = np.random.default_rng(seed)
    return lambda _, w: w + size * np.abs(w).mean() * rng.standard_normal(w.size)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1e-2, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_weights_that_are_put_back_up_to_rounding_are_not_written(
    tmp_path, dtype, size, seed
) -> None:
    products = sgd(SETTINGS, dtype=dtype, seed=seed, between=perturbed(size, seed))
    c = found(tmp_path, products, dtype=dtype.__name__)
    assert c.written == 0
    if dtype is np.float64:
        assert c.put_back == 0  # below what the sums leave
    else:
        assert c.put_back > 0.3 * c.pairs
        assert 0 < c.rounded < 2.0**-10 / 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "write",
    [
        noisy(1e-6),
        lambda t, w: w * 0.999 + 0.001 * np.roll(w, 1),  # averaged with other weights
        lambda t, w: w / np.linalg.norm(w) * 2.0,  # projected
        lambda t, w: w * (1 - 1e-6),  # decayed by hand
        lambda t, w: w.astype(np.float16),  # rounded to half
    ],
)
def test_real_writes_are_written(tmp_path, dtype, write) -> None:
    c = found(tmp_path, sgd(SETTINGS, dtype=dtype, between=write), dtype=dtype.__name__)
    assert c.written > 0.5 * c.pairs


def test_small_writes_that_add_up_are_written(tmp_path) -> None:
    """Each is below a rounding, but all have one sign, as those of a decay have."""
    share = 2.0**-24 / np.sqrt(200)
    products = sgd(SETTINGS, between=lambda t, w: w * (1.0 - share))
    c = found(tmp_path, products, dtype="float32")
    assert (c.written, c.put_back) == (STEPS - 1, 0)
