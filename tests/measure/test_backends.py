"""One table of backends, the same checks for all: a new one is a row here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import Backend, CpuBackend, RowSet, backend_of
from spherical_motion.measure.reference import ReferenceBackend, gram

Make = Callable[[Sequence[torch.Tensor], Sequence[RowSet]], Backend]

BACKENDS: dict[str, Make] = {
    "reference": ReferenceBackend,
    "cpu": CpuBackend,
    "cpu, copying": functools.partial(CpuBackend, rolling=False),
    "cpu, three threads": functools.partial(CpuBackend, threads=3),
}

backends = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS)

SHAPES = ((3, 5, 3, 3), (40,), (), (2, 9_000), (4, 0), (700, 400))
WHOLE = [(t, 0, 0, (shape or (1,))[0]) for t, shape in enumerate(SHAPES)]


def weights_of(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype) for shape in SHAPES]


class Training:
    """Weights that random steps move in place, and the products of each by the definition."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.weights = weights_of(dtype)
        self._rng = torch.Generator().manual_seed(5)
        self.grads: list[torch.Tensor | None] = []
        self.before: list[torch.Tensor] = []

    def begin(self) -> None:
        self.before = [w.clone() for w in self.weights]

    def step(self) -> None:
        self.grads = [
            torch.randn(w.shape, generator=self._rng, dtype=torch.float64).to(w.dtype)
            for w in self.weights
        ]
        for w, g in zip(self.weights, self.grads, strict=True):
            w.sub_(0.01 * g)

    def expected(self, slices: Sequence[tuple[int, int, int, int]] = WHOLE) -> np.ndarray:
        rows = []
        for t, axis, start, stop in slices:
            old, new, grad = (
                torch.atleast_1d(x[t]).narrow(axis, start, stop - start).reshape(1, -1)
                for x in (self.before, self.weights, self.grads)
            )
            rows.append(gram(old, new, grad).to_array()[0])
        return np.array(rows)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to rounding, which is relative to the lengths and not to their product."""
    ww, dd, gg = expected[:, 0], expected[:, 2], expected[:, 4]
    size = np.sqrt(np.stack([ww * ww, ww * dd, dd * dd, ww * gg, gg * gg, dd * gg], axis=1))
    assert np.all(np.abs(found - expected) <= 1e-13 * size)


def one_step(backend: Backend, run: Training, *, roll: bool = True, step: int = 0) -> np.ndarray:
    backend.keep(run.weights)
    run.begin()
    run.step()
    backend.measure(step, run.weights, run.grads, roll=roll)
    ((number, which, products, _),) = backend.read(wait=True)
    assert (number, which) == (step, 0)
    assert list(backend.read()) == []
    return products.copy()


@backends
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("roll", [True, False])
def test_every_step_has_the_products_of_the_definition(make: Make, dtype, roll: bool) -> None:
    run = Training(dtype)
    backend = make(run.weights, [RowSet(WHOLE)])
    for step in range(4):
        found = one_step(backend, run, roll=roll, step=step)
        assert_same(found, run.expected())
        if not roll:
            pairs = zip(backend.before, run.before, strict=True)
            assert all(torch.equal(kept, old.to(kept.dtype)) for kept, old in pairs)
    assert backend.nbytes > 0
    backend.close()
    backend.close()
    assert_same(one_step(backend, run), run.expected())
    backend.close()


@backends
def test_rows_in_part_overlapping_and_several_lists(make: Make) -> None:
    """A tensor that is summed in part or twice cannot be overwritten while it is summed."""
    run = Training()
    slices = [(0, 1, 0, 2), (0, 1, 2, 5), (3, 0, 1, 2), (5, 0, 0, 700), (5, 1, 3, 9), (1, 0, 0, 40)]
    finer = [(0, 0, i, i + 1) for i in range(3)]
    backend = make(run.weights, [RowSet(slices), RowSet(finer)])
    for step in range(3):
        backend.keep(run.weights)
        run.begin()
        run.step()
        backend.measure(step, run.weights, run.grads, which=1)
        backend.measure(step, run.weights, run.grads, roll=True)
        first, second = (m._replace(products=m.products.copy()) for m in backend.read(wait=True))
        assert (first.which, second.which) == (1, 0)
        assert_same(first.products, run.expected(finer))
        assert_same(second.products, run.expected(slices))


@backends
def test_without_a_gradient_its_products_are_nan_and_the_copy_rolls_on(make: Make) -> None:
    run = Training()
    backend = make(run.weights, [RowSet(WHOLE)])
    for _ in range(3):
        backend.keep(run.weights)
        run.begin()
        run.step()
        expected = run.expected()
        backend.measure(0, run.weights, [None, *run.grads[1:]], roll=True)
        ((_, _, found, _),) = backend.read(wait=True)
        assert np.isnan(found[0, 3:]).all()
        assert np.allclose(found[0, :3], expected[0, :3], rtol=1e-12)
        assert_same(found[1:], expected[1:])


@backends
def test_it_says_what_it_needs(make: Make) -> None:
    run = Training()
    needs = make(run.weights, [RowSet(WHOLE)]).needs()
    assert needs.gradient
    assert not needs.preconditioner
    assert not needs.earlier


def numpy_shared(w: torch.Tensor) -> None:
    w.detach().numpy()[...] *= 1.25


def through_view(w: torch.Tensor) -> None:
    w.view(-1).mul_(1.25)


def loaded(w: torch.Tensor) -> None:
    w.copy_(1.25 * w)


def replaced_data(w: torch.Tensor) -> None:
    w.data = 1.25 * w.data


def one_entry(w: torch.Tensor) -> None:
    """Counted by torch, as anything that is not done behind its back."""
    w.reshape(-1)[:1].zero_()


WRITES: dict[str, Callable[[torch.Tensor], object]] = {
    "mul_": lambda w: w.mul_(1.25),
    "data": lambda w: w.data.mul_(1.25),
    "decay of 1e-6 through data": lambda w: w.data.mul_(1 - 1e-6),
    "data =": replaced_data,
    "view": through_view,
    "detach": lambda w: w.detach().mul_(1.25),
    "numpy": numpy_shared,
    "copy_": loaded,
    "one entry": one_entry,
    "zero": lambda w: w.zero_(),
    "to channels_last": lambda w: setattr(
        w, "data", w.data.to(memory_format=torch.channels_last) if w.ndim == 4 else w.data
    ),
}


@backends
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("everywhere", [True, False])
def test_what_others_write_between_steps_is_no_part_of_the_next(
    make: Make, write: Callable, everywhere: bool
) -> None:
    run = Training()
    backend = make(run.weights, [RowSet(WHOLE)])
    for step in range(5):
        if step in (2, 3):
            for w in run.weights if everywhere else run.weights[:1]:
                write(w)
        assert_same(one_step(backend, run), run.expected())


@backends
def test_a_write_after_measuring_and_a_step_that_was_not_measured(make: Make) -> None:
    run = Training()
    backend = make(run.weights, [RowSet(WHOLE)])
    one_step(backend, run)
    for behind in (False, True):
        backend.keep(run.weights)  # a step that fails, or is skipped
        for w in run.weights:
            (w.data if behind else w).mul_(1.5)
        assert_same(one_step(backend, run), run.expected())


@pytest.mark.parametrize("rolling", [True, False])
@pytest.mark.parametrize("what", ["weight", "gradient", "shrunk gradient"])
def test_memory_that_was_freed_is_refused_and_not_read(rolling: bool, what: str) -> None:
    run = Training()
    backend = CpuBackend(run.weights, [RowSet(WHOLE)], rolling=rolling)
    one_step(backend, run)
    if what == "weight":
        storage = run.weights[0].untyped_storage()
        storage.resize_(0)
        with pytest.raises(InvalidArgument, match=r"after\[0\] needs 540 bytes .* has 0"):
            backend.keep(run.weights)
        storage.resize_(540)
    else:
        backend.keep(run.weights)
        grad = run.grads[3]
        assert grad is not None
        grad.untyped_storage().resize_(0 if what == "gradient" else 100)
        with pytest.raises(InvalidArgument, match=r"grads\[3\] needs 72,000 bytes"):
            backend.measure(1, run.weights, run.grads, roll=True)
    assert_same(one_step(backend, run), run.expected())


def test_a_tensor_that_comes_back_into_its_memory_is_read_anew() -> None:
    """As some libraries do, which gather and free their weights around each step."""
    run = Training()
    backend = CpuBackend(run.weights, [RowSet(WHOLE)])
    one_step(backend, run)
    storage, saved = run.weights[5].untyped_storage(), run.weights[5].clone()
    size = storage.nbytes()
    storage.resize_(0)
    storage.resize_(size)
    run.weights[5].data.copy_(2 * saved)
    assert_same(one_step(backend, run), run.expected())


def products_of(rolling: bool, steps: int = 30) -> np.ndarray:
    run = Training()
    backend = CpuBackend(run.weights, [RowSet(WHOLE)], rolling=rolling)
    return np.stack([one_step(backend, run) for _ in range(steps)])


def test_rolling_changes_no_bit() -> None:
    assert np.array_equal(products_of(True), products_of(False))


def test_a_snapshot_that_rolls_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Training()
    backend = CpuBackend(run.weights, [RowSet(WHOLE)])
    one_step(backend, run)
    copied: list[object] = []
    monkeypatch.setattr(backend._snapshot, "take", lambda _, which=None: copied.append(which))
    for _ in range(5):
        one_step(backend, run)
    assert copied == []
    run.weights[1].data.zero_()
    one_step(backend, run)
    assert copied == [None]


def test_devices_without_a_backend_are_refused() -> None:
    weight = torch.ones(2)
    assert isinstance(backend_of([weight], [RowSet([(0, 0, 0, 2)])]), CpuBackend)
    with pytest.raises(InvalidArgument, match=r"one kind of device of cpu, got cpu, meta"):
        backend_of([weight, torch.ones(2, device="meta")], [RowSet([])])
