"""A run in parts: some of its groups, and blocks of groups that stay below a limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from given import give
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion.errors import InvalidArgument
from spherical_motion.records import AUDIT_SUMS, RunInfo, RunWriter, read
from spherical_motion.records.reading.restriction import blocks_of_groups
from spherical_motion.vocabulary import InvariantGroup, Slice
from spherical_motion.vocabulary.gram import PRODUCTS

STEPS = 12


def build(widths: list[int], shared: bool = False) -> RunInfo:
    """Groups of so many slices each; the last one may repeat the first one's."""
    groups: list[InvariantGroup] = []
    for i, width in enumerate(widths):
        own = tuple(Slice(f"layer{i}.part{j}", 0, 0, 4) for j in range(width))
        groups.append(InvariantGroup(f"layer{i}", "scale", own, cells=(own,), numel=4 * width))
    if shared:
        twice = groups[0].slices + groups[-1].slices
        groups.append(InvariantGroup("shared", "rescale", twice, cells=(), numel=8))
    count = len({s for g in groups for s in g.slices})
    sgd = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": 0.1, "momentum": 0.9}
    return RunInfo(
        groups=tuple(groups),
        param_groups=(sgd, {**sgd, "weight_decay": 0.0}),
        slice_param_group=tuple(i % 2 for i in range(count)),
    )


@pytest.fixture
def run(tmp_path):
    """Six groups of 1 to 3 slices, one of shared ones; not every slice at every step."""
    info, rng = build([1, 2, 1, 3, 1], shared=True), np.random.default_rng(4)
    with RunWriter(tmp_path / "run", info) as writer:
        give(writer, 0, [(0.1, 0.1, 0.9, None), (0.1, 0.0, 0.9, None)])
        for step in range(STEPS):
            which = np.arange(8) if step % 3 else np.arange(1, 8, 2)
            writer.rows(step, rng.normal(size=(len(which), 6)), which)
            writer.cells(step, step % 3, rng.normal(size=(1, 6)))
            writer.audit(step, [2, 0, 5], rng.normal(size=(3, len(AUDIT_SUMS))))
            if step == STEPS // 2:
                writer.flush()
    return read(tmp_path / "run")


def assert_same(part, whole):
    """Whatever `part` says of its groups, `whole` says of them."""
    at = [whole.index(name) for name in part.groups]
    assert part.steps.tolist() == whole.steps.tolist()
    for name in PRODUCTS:
        ours, all_of_them = getattr(part.gram, name), getattr(whole.gram, name)[:, at]
        np.testing.assert_array_equal(ours, all_of_them)
        for i in range(len(part.groups)):
            np.testing.assert_array_equal(getattr(part.gram_of(i), name), ours[:, i])
    for name in ("lr", "weight_decay", "momentum", "beta2"):
        for i in range(len(part.groups)):
            np.testing.assert_array_equal(part.setting_of(name, i), getattr(part, name)[:, i])
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:, at])
    for figure in ("angle", "norm", "pull", "decay_share", "effective_lr"):
        np.testing.assert_array_equal(getattr(part, figure)(), getattr(whole, figure)()[:, at])
    assert part.mixed == {n: v for n, v in whole.mixed.items() if n in part.groups}
    assert part.events == whole.events
    for name in part.groups:
        assert part.schedule(name).start == whole.schedule(name).start
        np.testing.assert_array_equal(part.schedule(name).lr, whole.schedule(name).lr)
        np.testing.assert_array_equal(
            part.cells(name).gram.to_array(), whole.cells(name).gram.to_array()
        )
    for new, parameter in enumerate(part.info.parameters):
        old = whole.info.parameters.index(parameter)
        assert part.audits.of(new).step.tolist() == whole.audits.of(old).step.tolist()
        assert part.audits.of(new).ww.tolist() == whole.audits.of(old).ww.tolist()


@pytest.mark.parametrize("names", [["layer0"], ["layer3", "layer1"], ["shared", "layer2"]])
def test_selected_groups_are_as_in_the_whole_run(run, names):
    part = run.select(names)
    assert part.groups == tuple(names)
    assert_same(part, run)
    assert_same(part.select(names[-1:]), run)


@pytest.mark.parametrize("names", [[], ["layer0", "layer0"], ["nobody"]])
def test_a_selection_that_is_none_is_refused(run, names):
    with pytest.raises(InvalidArgument, match=r"at least one group|No group 'nobody'"):
        run.select(names)


def test_blocks_are_the_run_cut_into_consecutive_groups(run):
    blocks = list(run.blocks(limit=2 * STEPS * 6 * 8))
    assert len(blocks) > 3
    assert tuple(name for block in blocks for name in block.groups) == run.groups
    for block in blocks:
        assert_same(block, run)


def test_a_run_that_fits_is_its_only_block(run):
    assert list(run.blocks()) == [run]
    with pytest.raises(InvalidArgument, match=r"limit=\.\.\.\) must be an int >= 1, got 0"):
        next(run.blocks(0))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.integers(0, 9), st.integers(1, 99))
def test_blocks_stay_below_their_limit_or_have_one_group(widths, steps, rows):
    info = build(widths)
    limit = max(rows * 8 * 6, 1)
    blocks = list(blocks_of_groups(info, steps, limit))
    assert [i for block in blocks for i in block] == list(range(len(widths)))

    def size(block):
        arrays = [len(info.members[i]) + (len(info.members[i]) > 1) for i in block]
        return 8 * 6 * steps * sum(arrays)

    for block, following in itertools.pairwise(blocks):
        assert size(block) <= limit or len(block) == 1
        assert size(range(block.start, following.start + 1)) > limit
