"""`CpuGram`: slices of tensors however they lie in memory, on however many threads."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import CpuGram, reference

Slices = Sequence[tuple[int, int, int, int]]

CONV = (6, 5, 3, 3)

LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    "every other column": lambda x: torch.cat([x, x], dim=1)[:, ::2].copy_(x),
    "every other row": lambda x: torch.cat([x, x])[::2].copy_(x),
}


def random_steps(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[list]:
    """(after, before, grads), each a list with one tensor a shape."""
    rng = torch.Generator().manual_seed(7)
    before = [torch.randn(shape, generator=rng, dtype=dtype) for shape in shapes]
    after = [b + 1e-2 * torch.randn(b.shape, generator=rng, dtype=dtype) for b in before]
    grads = [torch.randn(shape, generator=rng, dtype=dtype) for shape in shapes]
    return [after, before, grads]


def measured(step: list[list], slices: Slices, threads: int = 1) -> np.ndarray:
    out = np.full((len(slices), 6), 7.0)
    with CpuGram(step[0], slices, threads=threads) as measure:
        measure(*step, out)
    return out


def expected(step: list[list], slices: Slices) -> np.ndarray:
    rows = []
    for tensor, axis, start, stop in slices:
        after, before, grad = (
            torch.atleast_1d(x[tensor]).narrow(axis, start, stop - start).reshape(1, -1)
            for x in step
        )
        rows.append(reference.gram(before, after, grad).to_array()[0])
    return np.array(rows).reshape(-1, 6)


def assert_same(found: np.ndarray, reference: np.ndarray) -> None:
    """Equal up to rounding, which is relative to the lengths and not to their product."""
    ww, dd, gg = reference[:, 0], reference[:, 2], reference[:, 4]
    size = np.sqrt(np.stack([ww * ww, ww * dd, dd * dd, ww * gg, gg * gg, dd * gg], axis=1))
    assert np.all(np.abs(found - reference) <= 1e-13 * size)


def every_index(axis: int, length: int) -> Slices:
    return [(0, axis, i, i + 1) for i in range(length)]


@pytest.mark.parametrize("of_grad", LAYOUTS)
@pytest.mark.parametrize("of_before", ["contiguous", "channels_last"])
@pytest.mark.parametrize("of_weights", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_any_mix_of_layouts(axis: int, of_weights: str, of_before: str, of_grad: str) -> None:
    after, before, grads = random_steps(CONV)
    step = [
        [LAYOUTS[layout](x[0])]
        for layout, x in zip((of_weights, of_before, of_grad), (after, before, grads), strict=True)
    ]
    slices = every_index(axis, CONV[axis])
    assert_same(measured(step, slices), expected([after, before, grads], slices))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(300, 4, 2, 2), (3, 2, 130, 140), (40, 2, 9, 70)])
def test_filters_of_transposed_convolutions_lie_on_axis_one(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    """Short runs are bundled, long ones cut: the three shapes need both and neither."""
    step = [[x.to(memory_format=memory_format) for x in xs] for xs in random_steps(shape)]
    slices = [*every_index(1, shape[1]), (0, 1, 0, shape[1])]
    assert_same(measured(step, slices), expected(step, slices))


def test_many_tensors_of_both_dtypes_in_any_order_of_slices() -> None:
    steps = random_steps((), (7,), (4, 1, 3, 3), (1, 9), (2, 40_000), (0, 3))
    steps = [[x.double() if i % 2 else x for i, x in enumerate(xs)] for xs in steps]
    slices = [
        (4, 0, 1, 2),
        (0, 0, 0, 1),
        (3, 0, 0, 1),
        (1, 0, 2, 6),
        (5, 1, 0, 3),
        (2, 1, 0, 1),
        (4, 1, 5, 30_000),
        (1, 0, 3, 3),
    ]
    assert_same(measured(steps, slices, threads=2), expected(steps, slices))


def test_nothing_to_measure() -> None:
    assert measured([[], [], []], []).shape == (0, 6)


def test_strides_of_axes_of_length_one_are_ignored() -> None:
    """They say nothing, and frameworks write what they like there."""
    plain = random_steps((8, 4, 1, 1))
    odd = [[x[0].as_strided((8, 4, 1, 1), (4, 1, 77, 5))] for x in plain]
    slices = [*every_index(0, 8), *every_index(1, 4), *every_index(2, 1), *every_index(3, 1)]
    for step in (odd, [odd[0], plain[1], plain[2]], [plain[0], odd[1], plain[2]]):
        assert np.array_equal(measured(step, slices), measured(plain, slices))


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 60),
    width=st.sampled_from([1, 3, 600]),
    axis=st.integers(0, 1),
    data=st.data(),
)
def test_any_split_into_slices_adds_up_to_the_whole(
    length: int, width: int, axis: int, data: st.DataObject
) -> None:
    cuts = data.draw(st.sets(st.integers(0, length)))
    step = random_steps((length, width) if axis == 0 else (width, length))
    edges = sorted(cuts | {0, length})
    parts = [(0, axis, a, b) for a, b in itertools.pairwise(edges)]
    assert_same(measured(step, parts).sum(0)[None], measured(step, [(0, axis, 0, length)]))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_number_of_threads_does_not_change_a_bit(threads: int) -> None:
    step = random_steps((3, 900_000), (700, 40, 3, 3))
    slices = [(0, 0, 0, 3), (0, 1, 5, 700_001), *[(1, 1, i, i + 1) for i in range(40)]]
    assert np.array_equal(measured(step, slices, threads), measured(step, slices, 1))


def test_tensors_may_move_between_calls() -> None:
    step = random_steps((4, 30), (5,))
    slices = [(0, 0, 0, 4), (1, 0, 0, 5)]
    out = np.empty((2, 6))
    with CpuGram(step[0], slices) as measure:
        for factor in (1.0, -3.0):
            moved = [[factor * x for x in xs] for xs in step]
            measure(*moved, out)
            assert_same(out, expected(moved, slices))


def test_missing_gradients_spoil_only_their_products_and_their_tensor() -> None:
    after, before, grads = random_steps((2, 3), (4,))
    slices = [(1, 0, 0, 4), (0, 0, 0, 1), (0, 0, 1, 2)]
    complete = measured([after, before, grads], slices)
    found = measured([after, before, [None, grads[1]]], slices)
    assert np.array_equal(found[0], complete[0])
    assert np.array_equal(found[1:, :3], complete[1:, :3])
    assert np.isnan(found[1:, 3:]).all()


def test_sparse_gradients_are_measured() -> None:
    step = random_steps((6, 3))
    step[2][0][1::2] = 0
    sparse = [*step[:2], [step[2][0].to_sparse()]]
    assert_same(measured(sparse, every_index(0, 6)), expected(step, every_index(0, 6)))


def test_not_finite_entries_spoil_their_slice_alone() -> None:
    after, before, grads = random_steps((3, 20_000))
    clean = measured([after, before, grads], every_index(0, 3))
    grads[0][1, 17_000] = torch.inf
    before[0][1, 3] = torch.nan
    found = measured([after, before, grads], every_index(0, 3))
    assert np.array_equal(found[[0, 2]], clean[[0, 2]])
    assert np.isnan(found[1, [0, 1, 2, 3, 5]]).all()
    assert found[1, 4] == np.inf


def test_kernels_called_from_several_threads_at_once() -> None:
    step = random_steps((4, 400_000))
    slices = every_index(0, 4)
    alone = measured(step, slices)
    shared = CpuGram(step[0], slices, threads=2)
    own = CpuGram(step[0], slices, threads=2)
    start = threading.Barrier(4)

    def repeat(measure: CpuGram) -> bool:
        out = np.empty((4, 6))
        start.wait(timeout=10)
        same = True
        for _ in range(20):
            measure(*step, out)
            same &= np.array_equal(out, alone)
        return same

    with shared, own, ThreadPoolExecutor(4) as callers:
        assert all(callers.map(repeat, [shared, shared, shared, own]))


def threads_of_kernels() -> int:
    return sum("spherical-motion" in thread.name for thread in threading.enumerate())


def test_closing_ends_the_threads_and_may_be_repeated() -> None:
    step = random_steps((4, 400_000))
    out = np.empty((1, 6))
    before = threads_of_kernels()
    measure = CpuGram(step[0], [(0, 0, 0, 4)], threads=3)
    for _ in range(2):
        measure(*step, out)
        assert before < threads_of_kernels() <= before + 2
        measure.close()
        measure.close()
        assert threads_of_kernels() == before
    assert measure.threads == 3


def test_a_kernel_that_is_forgotten_is_collected() -> None:
    step = random_steps((4, 400_000))
    measure = CpuGram(step[0], [(0, 0, 0, 4)], threads=2)
    measure(*step, np.empty((1, 6)))
    forgotten = weakref.ref(measure)
    del measure
    gc.collect()
    assert forgotten() is None


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    step = random_steps((4, 400_000))
    measure = CpuGram(step[0], every_index(0, 4), threads=2)
    out = np.empty((4, 6))
    measure(*step, out)
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def measure_and_close() -> None:
        in_child = np.empty((4, 6))
        measure(*step, in_child)
        measure.close()
        measure.close()
        writer.send(in_child)

    with measure._team.lock:  # as if another thread were measuring at this moment
        child = context.Process(target=measure_and_close)
        child.start()
    child.join(timeout=20)
    alive = child.is_alive()
    child.kill()
    assert not alive, "the child hangs"
    assert reader.poll(1)
    assert np.array_equal(reader.recv(), out)
    measure(*step, out)
    measure.close()


@pytest.mark.parametrize(
    ("position", "name", "replaced"),
    [
        (0, "after", []),
        (0, "after", [torch.ones(3, 2)]),
        (1, "before", [torch.ones(2, 3, dtype=torch.float64)]),
        (2, "grads", [torch.ones(2, 3, dtype=torch.bfloat16)]),
        (2, "grads", [torch.ones(2, 3, device="meta")]),
        (2, "grads", [None, None]),
    ],
)
def test_tensors_that_changed_are_refused(position: int, name: str, replaced: list) -> None:
    step = [[torch.ones(2, 3)] for _ in range(3)]
    step[position] = replaced
    with pytest.raises(InvalidArgument, match=f"CpuGram: {name}.* must .*, got"):
        CpuGram([torch.ones(2, 3)], [(0, 0, 0, 2)])(*step, np.empty((1, 6)))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 6)),
        np.empty((1, 6), np.float32),
        np.empty((6, 2)).T[:1],
        np.empty((1, 12))[:, ::2],
    ],
)
def test_results_go_into_a_fitting_array_only(out: np.ndarray) -> None:
    step = [[torch.ones(2, 3)] for _ in range(3)]
    with pytest.raises(InvalidArgument, match=r"out must be .* float64 .* \(1, 6\), got"):
        CpuGram(step[0], [(0, 0, 0, 2)])(*step, out)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ((1, 0, 0, 1), r"slices\[0\]: the tensor index must be in \[0, 1\), got 1"),
        ((0, 2, 0, 1), "axis=2"),
        ((0, -1, 0, 1), "axis=-1"),
        ((0, 0, 1, 3), "stop=3"),
        ((0, 0, 2, 1), "start=2"),
        ((0, 0, 1), r"shape \(1, 3\)"),
    ],
)
def test_slices_outside_their_tensor_are_refused(wrong: tuple, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        CpuGram([torch.ones(2, 3)], [wrong])


def test_tensors_and_threads_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(
        InvalidArgument, match=r"tensor 1 must be float32 or float64, got torch.float16"
    ):
        CpuGram([torch.ones(2), torch.ones(2).half()], [])
    for threads in (0, 1.5):
        with pytest.raises(
            InvalidArgument, match=rf"threads=.* must be an int >= 1, got {threads}"
        ):
            CpuGram([torch.ones(2)], [(0, 0, 0, 2)], threads=threads)
