"""The promise about angles: 1e-6 relative, from 1e-6 rad to π, also when a step is mostly radial.

Oracles, both exact for the numbers the weights really hold: mpmath with 60 digits for rows of up
to a few thousand entries, and for longer ones error-free products (Dekker) under `math.fsum`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from spherical_motion import sphere
from spherical_motion.measure import gram

PROMISE = 1e-6
ANGLES = (1e-7, 1e-6, 1e-4, 1e-2, 1.0, math.pi - 1e-3, math.pi)
RADIAL = (-1e4, -1.0, 0.0, 1e2, 1e4)


def turned(w: np.ndarray, angle: float, radial: float, rng: np.random.Generator) -> np.ndarray:
    """float32 weights about `angle` away from `w` after a step with a radial part beside it.

    `radial` is in units of the angle, as a share of the norm, and limited to what keeps the
    direction: a step cannot go inward by more than the whole norm.
    """
    w = w.astype(np.float64)
    across = rng.standard_normal(w.shape)
    across -= (across @ w) / (w @ w) * w
    across *= np.linalg.norm(w) / np.linalg.norm(across)
    scale = max(1 + radial * angle, 0.5)
    return (scale * (math.cos(angle) * w + math.sin(angle) * across)).astype(np.float32)


def angle_from_sums(ww: mpmath.mpf, wd: mpmath.mpf, dd: mpmath.mpf) -> mpmath.mpf:
    across = mpmath.sqrt(max(dd - wd * wd / ww, mpmath.mpf(0)))
    return mpmath.atan2(across * mpmath.sqrt(ww), ww + wd)


def exact_angle(before: np.ndarray, after: np.ndarray) -> mpmath.mpf:
    w = [mpmath.mpf(float(x)) for x in before]
    d = [mpmath.mpf(float(x)) - y for x, y in zip(after, w, strict=True)]
    return angle_from_sums(mpmath.fdot(w, w), mpmath.fdot(w, d), mpmath.fdot(d, d))


def exact_angle_of_long_row(before: np.ndarray, after: np.ndarray) -> mpmath.mpf:
    w = before.astype(np.float64)
    d = after.astype(np.float64) - w
    # The differences are exact: no entry changes by more than the 29 bits float64 has to spare.
    assert np.array_equal((w + d).astype(np.float32), after)
    assert np.array_equal(after - d, w)
    return angle_from_sums(exact_dot(w, w), exact_dot(w, d), exact_dot(d, d))


def exact_dot(x: np.ndarray, y: np.ndarray) -> mpmath.mpf:
    """Twice the digits of float64: the rounded sum, and the sum of what it leaves out."""
    total = math.fsum(exact_products(x, y))
    rest = math.fsum(itertools.chain([-total], exact_products(x, y)))
    return mpmath.mpf(total) + mpmath.mpf(rest)


def exact_products(x: np.ndarray, y: np.ndarray) -> Iterator[float]:
    """Numbers that add up to x·y without error: Dekker (1971), with Veltkamp's splitting."""
    chunk = 1 << 16
    for start in range(0, len(x), chunk):
        a, b = x[start : start + chunk], y[start : start + chunk]
        product = a * b
        (a_high, a_low), (b_high, b_low) = split(a), split(b)
        error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
        yield from product.tolist()
        if error.any():
            yield from error.tolist()


def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = x * 134_217_729.0  # 2²⁷ + 1
    high = scaled - (scaled - x)
    return high, x - high


def relative_error(measured: float, exact: mpmath.mpf) -> float:
    return float(abs(mpmath.mpf(measured) - exact) / exact)


def measured_angle(before: np.ndarray, after: np.ndarray, backend: str = "cpu") -> float:
    rows = (torch.from_numpy(x)[None] for x in (before, after))
    return float(sphere.angle(gram(*rows, None, backend=backend))[0])


@pytest.fixture(autouse=True)
def sixty_digits() -> Iterator[None]:
    with mpmath.workdps(60):
        yield


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("entries", [2, 27, 1153])
def test_angles_keep_the_promise_over_the_whole_grid(backend: str, entries: int) -> None:
    rng = np.random.default_rng(entries)
    w = rng.standard_normal(entries).astype(np.float32)
    for angle, radial in itertools.product(ANGLES, RADIAL):
        after = turned(w, angle, radial, rng)
        exact = exact_angle(w, after)
        # Below the range that is promised a thousandth of its lower end is absolute error enough.
        allowed = max(PROMISE * exact, 1e-3 * PROMISE**2)
        assert abs(measured_angle(w, after, backend) - exact) <= allowed, (angle, radial)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("weights", ["normal", "constant"])
def test_error_grows_with_the_square_of_the_radial_part_and_no_faster(
    backend: str, weights: str
) -> None:
    """The tangential part is a difference that magnifies the sums' errors by (radial/angle)².

    Constant weights are the worst case of a running sum: all its rounding errors agree in sign.
    """
    rng = np.random.default_rng(1)
    w = rng.standard_normal(20_000) if weights == "normal" else np.full(20_000, 0.1)
    w = w.astype(np.float32)
    for angle, radial in itertools.product((1e-6, 1e-4), (0.0, 1e2, 1e4)):
        after = turned(w, angle, radial, rng)
        error = relative_error(measured_angle(w, after, backend), exact_angle_of_long_row(w, after))
        assert error <= 1e-15 * (1 + radial**2), (angle, radial)


@pytest.mark.parametrize("entries", [16_384, 300_001])
@pytest.mark.parametrize("constant", [0.1, 0.3, 7.7])
def test_sums_of_equal_entries_gather_no_error(constant: float, entries: int) -> None:
    """A running sum's errors would all have one sign: 3e-14 within a tile, 1e-12 in a million."""
    w = torch.full((1, entries), constant)
    exact = Fraction(w[0, 0].item()) ** 2 * entries
    assert abs(Fraction(gram(w, w, None, backend="cpu").ww[0]) / exact - 1) <= 1e-15


@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_angles_do_not_depend_on_the_unit_of_the_weights(scale: float) -> None:
    """Far from 1 a float32 square would overflow, or vanish; 2^k keeps the digits the same."""
    rng = np.random.default_rng(2)
    w = rng.standard_normal(500).astype(np.float32)
    after = turned(w, 1e-5, 1e3, rng)
    power = np.float32(2.0 ** round(math.log2(scale)))
    assert measured_angle(w * power, after * power) == measured_angle(w, after)


def test_the_oracles_agree() -> None:
    rng = np.random.default_rng(3)
    w = rng.standard_normal(300).astype(np.float32)
    after = turned(w, 1e-6, 1e4, rng)
    assert relative_error(exact_angle_of_long_row(w, after), exact_angle(w, after)) < 1e-20


def test_a_row_of_16_million_entries_that_repeats_itself_has_the_angle_of_its_period() -> None:
    rng = np.random.default_rng(4)
    w = rng.standard_normal(1000).astype(np.float32)
    after = turned(w, 1e-6, 1e4, rng)
    found = measured_angle(np.tile(w, 16_384), np.tile(after, 16_384))
    assert relative_error(found, exact_angle(w, after)) <= PROMISE


@pytest.mark.parametrize(
    "entries", [1 << 20, pytest.param(1 << 24, marks=pytest.mark.slow)], ids=["1M", "16M"]
)
def test_long_rows_keep_the_promise(entries: int) -> None:
    rng = np.random.default_rng(5)
    w = rng.standard_normal(entries, dtype=np.float32)
    after = turned(w, 1e-6, 1e4, rng)
    assert relative_error(measured_angle(w, after), exact_angle_of_long_row(w, after)) <= PROMISE
