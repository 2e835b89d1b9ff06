"""run.json: exact, strict, compact, and refused when it is not what it should be."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion.errors import InvalidArgument, NotARun
from spherical_motion.records import SCHEMA_VERSION, RunInfo
from spherical_motion.records.info import union_of_slices
from spherical_motion.records.packing import pack_cells, unpack_cells
from spherical_motion.vocabulary import HyperParameters, InvariantGroup, Slice

pieces = st.builds(
    lambda name, axis, start, width: Slice(name, axis, start, start + width),
    st.sampled_from(["a.weight", "a.bias"]),
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(1, 2),
)


@given(st.lists(st.lists(pieces, max_size=2).map(tuple), max_size=12).map(tuple))
def test_packing_is_exact(cells):
    assert unpack_cells(json.loads(json.dumps(pack_cells(cells)))) == cells


@given(st.integers(1, 50), st.integers(0, 5), st.integers(1, 4))
def test_equally_wide_neighbours_are_one_entry(count, start, width):
    cells = [
        tuple(Slice(p, 0, start + i * width, start + (i + 1) * width) for p in ("q", "k"))
        for i in range(count)
    ]
    assert pack_cells(cells) == [(count, [("q", 0, start, width), ("k", 0, start, width)])]


def test_the_filters_of_a_resnet50_are_stored_in_a_few_kilobytes(make_info):
    filters = [64 * 2 ** (i % 6) for i in range(53)]
    groups = []
    for i, n in enumerate(filters):
        cells = tuple((Slice(f"layer{i}.conv.weight", 0, j, j + 1),) for j in range(n))
        whole = (Slice(f"layer{i}.conv.weight", 0, 0, n),)
        groups.append(InvariantGroup(f"layer{i}.conv", "scale", whole, cells, numel=9 * n))
    assert sum(filters) > 26_560
    info = make_info(groups=tuple(groups), slice_param_group=(0,) * 53)
    assert len(info.to_json()) < 15_000
    assert RunInfo.from_json(info.to_json()) == info


def test_json_is_strict_and_exact_even_for_numbers_it_does_not_know(make_info):
    odd = {"class": "Adam", "optimizer": 0, "lr": 0.1, "betas": [0.9, 0.99], "cap": math.inf}
    info = make_info(param_groups=(odd, {**odd, "foreach": None, "amsgrad": True}))

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    document = json.loads(info.to_json(), parse_constant=refuse)
    assert [group["defect"] for group in document["groups"]] == [1e-7, None]
    again = RunInfo.from_json(info.to_json())
    assert again == info
    assert again.param_groups[0]["betas"] == (0.9, 0.99)
    assert again.param_groups[0]["cap"] == math.inf
    assert math.isnan(again.groups[1].defect)
    assert not again.groups[1].proven


def test_hyperparameters_are_those_of_the_slices_parameter_group(info):
    expected = HyperParameters("sgd", lr=0.1, weight_decay=5e-4, momentum=0.9)
    assert info.hyperparameters(1) == expected
    assert info.hyperparameters(2) == dataclasses.replace(expected, weight_decay=0.0)


def test_a_slice_shared_by_two_groups_is_recorded_once(info):
    (conv, fc) = info.groups
    pair = InvariantGroup("pair", "rescale", conv.slices + fc.slices[:1], (), numel=100)
    groups = (*info.groups, pair)
    assert union_of_slices(groups) == info.slices
    assert dataclasses.replace(info, groups=groups).members == ((0,), (1, 2), (0, 1))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"groups": ()}, "at least one group"),
        ({"slices": (Slice("other", 0, 0, 1),)}, "Leave it out"),
        ({"slice_param_group": (0, 0)}, "each of 3 slices, got 2"),
        ({"slice_param_group": (0, 0, 2)}, "largest 2"),
        ({"param_groups": ({"lr": 0.1}, {"lr": 0.1})}, "'class' and 'lr'"),
        ({"every": 0}, r"every=\.\.\.\) must be an int >= 1, got 0"),
        ({"param_groups": ({"class": "SGD", "lr": object()},)}, "got object for 'lr'"),
    ],
)
def test_contradictions_are_refused(make_info, changes, complaint):
    with pytest.raises(InvalidArgument, match=complaint):
        make_info(**changes)


def test_groups_of_one_name_are_refused(make_info, info):
    with pytest.raises(InvalidArgument, match=r"distinct names, got \['conv'\]"):
        make_info(groups=(info.groups[0], info.groups[0]))


@pytest.mark.parametrize("text", ["", '{"sche', '{"schema_version": 2, "groups": ['])
def test_a_text_that_was_cut_is_damaged(text):
    with pytest.raises(NotARun, match=r"run\.json is damaged \(.*\)\. Restore it from a copy"):
        RunInfo.from_json(text, where="here/run.json")


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"schema_version": "new"}', "no JSON"])
def test_other_json_is_not_a_run(text):
    with pytest.raises(NotARun, match=r"here/run\.json is not the description of a run"):
        RunInfo.from_json(text, where="here/run.json")


def test_a_newer_version_is_named(info):
    document = json.loads(info.to_json()) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(NotARun, match=f"version {SCHEMA_VERSION + 1}; .* up to {SCHEMA_VERSION}"):
        RunInfo.from_json(json.dumps(document))


def test_a_part_that_is_missing_is_damage(info):
    document = json.loads(info.to_json())
    del document["groups"]
    with pytest.raises(NotARun, match=r"damaged .*groups"):
        RunInfo.from_json(json.dumps(document))


def test_a_group_keeps_its_defect_s_error_and_its_powers(make_info):
    gain, weight = Slice("n.weight", 0, 0, 4), Slice("fc.weight", 1, 0, 4)
    trade = InvariantGroup(
        "n / fc", "rescale", (gain, weight), (), 8, defect=1e-5, defect_error=2e-6, powers=(1, -1)
    )
    plain = InvariantGroup("n", "scale", (gain,), ((gain,),), 4, defect=1e-5)
    info = make_info(groups=(trade, plain), slice_param_group=(0, 0))
    first, second = RunInfo.from_json(info.to_json()).groups
    assert dataclasses.replace(first, cells=()) == trade
    assert math.isnan(second.defect_error)
    assert second.powers == ()
