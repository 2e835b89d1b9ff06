"""`measure.gram`: every backend gives what the definition says, and refuses the same things."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import BACKENDS, gram
from spherical_motion.vocabulary.gram import FIELDS, Gram

backends = pytest.mark.parametrize("backend", BACKENDS)


def random_step(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(sum(shape))
    before, step, grad = (torch.randn(shape, generator=rng, dtype=dtype) for _ in range(3))
    return before, before + 1e-3 * step, grad


def by_definition(before: torch.Tensor, after: torch.Tensor, grad: torch.Tensor) -> np.ndarray:
    """(rows, 6), from float64 vectors of one row at a time."""
    products = []
    for w, a, g in zip(*(x.double().numpy() for x in (before, after, grad)), strict=True):
        v = {"w": w.ravel(), "d": (a - w).ravel(), "g": g.ravel()}
        products.append([v[x] @ v[y] for x, y in FIELDS])
    return np.array(products).reshape(-1, 6)


@backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (1, 1), (3, 7), (4, 3, 3, 3), (2, 40_000)])
def test_products_are_those_of_the_definition(
    backend: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    step = random_step(*shape, dtype=dtype)
    found, expected = gram(*step, backend=backend).to_array(), by_definition(*step)
    size = np.sqrt(expected[:, [0, 0, 2, 0, 4, 2]] * expected[:, [0, 2, 2, 4, 4, 4]])
    assert np.all(np.abs(found - expected) <= 1e-14 * size)


@backends
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_rows_are_zero(backend: str, shape: tuple[int, ...]) -> None:
    result = gram(*random_step(*shape), backend=backend)
    assert result.shape == shape[:1]
    assert not result.to_array().any()


@backends
def test_without_a_gradient_its_products_are_nan(backend: str) -> None:
    before, after, grad = random_step(3, 5)
    found = gram(before, after, None, backend=backend)
    complete = gram(before, after, grad, backend=backend)
    for name in ("ww", "wd", "dd"):
        assert np.array_equal(getattr(found, name), getattr(complete, name))
    for name in ("wg", "gg", "dg"):
        assert np.isnan(getattr(found, name)).all()


@backends
def test_a_zero_gradient_and_a_step_of_zero_give_exact_zeros(backend: str) -> None:
    before, _, _ = random_step(3, 5)
    found = gram(before, before, torch.zeros(3, 5), backend=backend)
    assert found.ww.all()
    assert not found.to_array()[:, 1:].any()


@backends
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_finite_spoils_its_own_row_alone(backend: str, bad: float, which: int) -> None:
    step = random_step(3, 700)
    step[which][1, 555] = bad
    found = gram(*step, backend=backend)
    spoilt = {0: FIELDS[:4] + FIELDS[5:], 1: ("wd", "dd", "dg"), 2: ("wg", "gg", "dg")}[which]
    for name in FIELDS:
        assert np.array_equal(np.isfinite(getattr(found, name)), [True, name not in spoilt, True])


@backends
@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_squares_that_float32_cannot_hold(backend: str, scale: float) -> None:
    before, after, grad = (scale * x for x in random_step(2, 9))
    found = gram(before, after, grad, backend=backend).to_array()
    assert np.allclose(found, by_definition(before, after, grad), rtol=1e-12, atol=0)
    assert np.all(found[:, 0] > 0)


@backends
def test_parameters_that_require_gradients_are_measured_without_a_graph(backend: str) -> None:
    before, after, grad = random_step(2, 3, 4, 4)
    leaf = torch.nn.Parameter(after.to(memory_format=torch.channels_last))
    found = gram(before, leaf, grad, backend=backend)
    expected = gram(before, after, grad, backend="reference")
    assert np.allclose(found.to_array(), expected.to_array(), rtol=1e-13, atol=0)


@backends
@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.int32, torch.bool]
)
def test_other_dtypes_are_refused(backend: str, dtype: torch.dtype) -> None:
    x = torch.ones(2, 3).to(dtype)
    with pytest.raises(InvalidArgument, match=r"must be float32 or float64, got .* yet"):
        gram(x, x, None, backend=backend)


@backends
def test_other_devices_are_refused(backend: str) -> None:
    x = torch.ones(2, 3, device="meta")
    with pytest.raises(InvalidArgument, match=r"must be on the CPU, got a tensor on meta.*\.cpu"):
        gram(x, x, None, backend=backend)


@pytest.mark.parametrize("name", ["after", "grad"])
@pytest.mark.parametrize(
    "other", [torch.ones(2, 4), torch.ones(6), torch.ones(2, 3, dtype=torch.float64)]
)
def test_tensors_that_do_not_fit_each_other_are_refused(name: str, other: torch.Tensor) -> None:
    step = dict.fromkeys(("before", "after", "grad"), torch.ones(2, 3)) | {name: other}
    with pytest.raises(InvalidArgument, match=rf"gram\({name}=.*\(2, 3\) torch.float32, got"):
        gram(**step)


def test_a_single_number_is_not_a_table_of_rows() -> None:
    with pytest.raises(InvalidArgument, match=r"\(rows, \.\.\.\)"):
        gram(torch.tensor(1.0), torch.tensor(1.0), None)


def test_unknown_backends_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="auto, reference, cpu, got 'tpu'"):
        gram(torch.ones(1, 1), torch.ones(1, 1), None, backend="tpu")


@backends
def test_grams_of_disjoint_parts_add_up(backend: str) -> None:
    before, after, grad = random_step(2, 10)
    halves: list[Gram] = [
        gram(before[:, part], after[:, part], grad[:, part], backend=backend)
        for part in (slice(0, 3), slice(3, 10))
    ]
    whole = gram(before, after, grad, backend=backend).to_array()
    assert np.allclose((halves[0] + halves[1]).to_array(), whole, rtol=1e-12, atol=1e-15)
