"""The zoo's own words and arithmetic, and the search against the truth on its fast networks."""

from __future__ import annotations

import pytest
from zoo.catalogue import NETWORKS
from zoo.network import Network
from zoo.page import page, share
from zoo.score import scored
from zoo.truth import Truth

from spherical_motion.invariance import inspect_model
from spherical_motion.vocabulary import Slice

FAST = [network for network in NETWORKS if network.fast]
SHAPES = {
    "embed": (6, 4),
    "v.weight": (4, 4),
    "v.bias": (4,),
    "o.weight": (4, 4),
    "o.bias": (4,),
    "conv.weight": (3, 2),
    "gain": (3,),
    "next.weight": (5, 3),
}


def a_truth() -> Truth:
    """A stream of two writers whose values may stand for the output projection; a convolution."""
    truth = Truth(SHAPES)
    truth.cells.jointly("embed", "o.*")
    truth.cells.rows("conv.weight", "next.weight")
    truth.rescaling(("v.*",), ("o.weight",))
    truth.rescaling(("gain",), ("next.weight",))
    return truth


def whole(name: str) -> Slice:
    return Slice(name, 0, 0, SHAPES[name][0])


STREAM = (whole("embed"), whole("o.weight"), whole("o.bias"))
BY_VALUES = (whole("embed"), whole("v.weight"), whole("v.bias"), whole("o.bias"))
ROWS = [(Slice(name, 0, i, i + 1),) for name in ("conv.weight", "next.weight") for i in range(3)]


def test_exact_cells_whatever_their_order_and_cuts() -> None:
    cut = (Slice("o.weight", 0, 2, 4), STREAM[2], STREAM[0], Slice("o.weight", 1, 0, 4))
    score = scored(a_truth(), [cut[1:], *ROWS])
    assert (score.true_cells, score.exact, score.gauge, score.false) == (9, 7, 0, ())
    assert len(score.missed) == 2
    assert score.precision == 1.0
    assert score.recall == pytest.approx(7 / 9)


@pytest.mark.parametrize(
    "cell",
    [
        BY_VALUES,
        (whole("gain"),),  # its rescaling partner is free row by row
        (*STREAM, whole("gain")),  # true, though not minimal
        (*STREAM, ROWS[0][0]),
    ],
)
def test_what_follows_by_rescaling_is_true_by_gauge(cell: tuple[Slice, ...]) -> None:
    score = scored(a_truth(), [cell])
    assert (score.exact, score.gauge, score.false) == (0, 1, ())


@pytest.mark.parametrize(
    "cell",
    [
        STREAM[:2],  # a member short
        (whole("v.weight"),),
        (*BY_VALUES, whole("o.weight")),  # both ends of a chain
        (Slice("embed", 0, 0, 3), *STREAM[1:]),
        (Slice("next.weight", 1, 0, 1),),  # rows are free, a column is not
        (Slice("gain", 0, 0, 1),),
    ],
)
def test_what_does_not_follow_is_false(cell: tuple[Slice, ...]) -> None:
    score = scored(a_truth(), [cell])
    assert (score.exact, score.gauge, len(score.false)) == (0, 0, 1)
    assert score.precision == 0.0


def test_the_union_of_equivalents_is_true_and_a_part_of_one_is_not() -> None:
    truth = a_truth()
    pairs = (whole("v.bias"), Slice("gain", 0, 0, 1)), (whole("v.weight"), Slice("gain", 0, 1, 2))
    truth.equivalents.found += pairs
    assert scored(truth, [pairs[0] + pairs[1]]).gauge == 1
    assert len(scored(truth, [pairs[0] + pairs[1][:1]]).false) == 1


def test_an_equivalent_recovers_a_missed_cell() -> None:
    score = scored(a_truth(), [BY_VALUES, *ROWS])
    assert score.missed_by_gauge == 1
    assert score.recall < score.recall_by_gauge


def test_silent_and_unseen_parts_do_not_matter() -> None:
    truth = a_truth()
    truth.no_effect("o.bias")
    truth.not_touched("embed[0:1]")
    assert scored(truth, [(Slice("embed", 0, 1, 6), whole("o.weight"))]).exact == 1
    assert scored(truth, [STREAM, (whole("o.bias"),)]).exact == 1


def test_truth_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter matches"):
        Truth(SHAPES).cells.rows("convolution.weight")
    with pytest.raises(ValueError, match="number of blocks"):
        Truth(SHAPES).cells.blocks(4, "embed", "v.weight")


def test_shares_are_cut_and_not_rounded() -> None:
    assert share(9999, 10000) == "0.999"
    assert share(0, 0) == "–"


def test_at_least_twenty_networks_with_names_of_their_own() -> None:
    assert len({network.name for network in NETWORKS}) == len(NETWORKS) >= 20
    assert len(FAST) >= 6


@pytest.mark.parametrize("network", FAST, ids=lambda network: network.name)
def test_fast_networks_are_found_without_a_false_cell(network: Network) -> None:
    model, inputs = network.made()
    truth = network.truth(model)
    inspection = inspect_model(model, inputs)
    score = scored(truth, [cell for group in inspection.groups for cell in group.cells])
    assert score.false == ()
    assert score.missed == ()
    assert inspection.passes <= 6


def test_the_page_shows_errors_and_misses() -> None:
    result = {
        "name": "Broken",
        "note": "on purpose",
        "error": "it broke",
    }
    text = page({"machine": {"cores": 2}, "networks": {"Broken": result}})
    assert "not measured: it broke" in text
