"""The arithmetic of the search for joint symmetries, against slow and obvious searches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spherical_motion.invariance.running.row_sums import RowSums
from spherical_motion.invariance.search.ledger import Ledger
from spherical_motion.invariance.search.nullspace import integer_relations
from spherical_motion.invariance.search.profiles import search_profiles
from spherical_motion.invariance.search.streams import search_totals
from spherical_motion.invariance.search.sums import signed_sums, zero_subsets

ZERO = 1e-8
PROBES = 3


def values(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(PROBES, count))


def slow_signed_sums(x: np.ndarray) -> set[tuple[tuple[int, int], ...]]:
    found = set()
    for size in (2, 3, 4):
        for index in itertools.combinations(range(x.shape[1]), size):
            for signs in itertools.product((1, -1), repeat=size - 1):
                if np.abs(x[:, list(index)] @ np.array([1, *signs])).max() < 1e-9:
                    found.add(tuple(zip(index, (1, *signs), strict=True)))
    return found


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(5, 9))
@settings(max_examples=40, deadline=None)
def test_signed_sums_are_those_of_a_search_over_all(seed: int, size: int, count: int) -> None:
    x = values(count, seed)
    rng = np.random.default_rng(seed + 1)
    index = rng.choice(count, size, replace=False)
    signs = rng.choice((1, -1), size)
    x[:, index[-1]] = -signs[-1] * (x[:, index[:-1]] @ signs[:-1])
    found = signed_sums(x, np.ones_like(x), 1e-9)
    assert {tuple(sorted(terms.items())) for terms in found} == slow_signed_sums(x)
    assert len(found) == len(slow_signed_sums(x)) >= 1


@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(7, 11))
@settings(max_examples=40, deadline=None)
def test_zero_subsets_are_the_smallest_of_all(seed: int, size: int, count: int) -> None:
    x = values(count, seed)
    index = np.random.default_rng(seed).choice(count, size, replace=False)
    x[:, index[-1]] = -x[:, index[:-1]].sum(axis=1)
    assert [set(s) for s in zero_subsets(x, np.ones_like(x), 1e-9)] == [set(index.tolist())]


def test_nothing_cancels_by_chance_among_many() -> None:
    x = values(150, 0)
    assert signed_sums(x, np.ones_like(x), ZERO) == []
    assert zero_subsets(values(24, 1), np.ones((PROBES, 24)), ZERO) == []


def test_values_too_small_to_be_told_join_no_sum() -> None:
    x = values(5, 0)
    x[:, 1] = -x[:, 0]
    x[:, 2] = 1e-9
    assert signed_sums(x, np.ones_like(x), ZERO) == [{0: 1, 1: 1}]
    assert zero_subsets(x, np.ones_like(x), ZERO) == [(0, 1)]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_integer_relations_are_found_whatever_the_columns_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(30, 6)) * 10.0 ** rng.uniform(-1, 1, 6)
    relation = np.array([2, 0, -1, 1, 0, -3])
    columns[:, 3] = -(columns @ relation - columns[:, 3])
    assert integer_relations(columns, 1e-9) == [tuple(relation.tolist())]


def test_relations_have_small_support_and_are_independent() -> None:
    """Two columns alike and a stream that either may stand in: the pair, and one stream."""
    embed, out, value = np.random.default_rng(0).normal(size=(3, 20))
    columns = np.stack([value, value, embed, -embed - value, out], axis=1)
    pair, stream = integer_relations(columns, 1e-9)
    assert pair == (1, -1, 0, 0, 0)
    assert stream in ((1, 0, 1, 1, 0), (0, 1, 1, 1, 0))


def test_columns_without_a_relation_have_none() -> None:
    assert integer_relations(np.random.default_rng(0).normal(size=(40, 25)), 1e-6) == []
    irrational = np.random.default_rng(0).normal(size=(9, 1)) * np.array([1.0, np.sqrt(2)])
    assert integer_relations(irrational, 1e-9) == []


def ledger_of(rows: dict[str, np.ndarray]) -> Ledger:
    """One axis a parameter, t given with shape (probes, rows), ww = gg = 1."""
    one = {n: np.ones_like(t) for n, t in rows.items()}
    evidence = {n: (RowSums(t, one[n], one[n], entries=3),) for n, t in rows.items()}
    return Ledger(evidence, {n: (np.ones(t.shape[1], bool),) for n, t in rows.items()}, ZERO)


def test_a_relation_found_row_by_row_is_not_found_again_as_a_whole() -> None:
    gain, shift, other = (np.random.default_rng(i).normal(size=(PROBES, 40)) for i in range(3))
    ledger = ledger_of({"n.weight": gain, "n.bias": shift, "fc.weight": gain + shift, "x": other})
    search_profiles(ledger)
    search_totals(ledger)
    assert len(ledger.found) == 40
    assert {s.pattern for s in ledger.found} == {
        (("n.weight", 1), ("n.bias", 1), ("fc.weight", -1))
    }
    assert ledger.open_tensors() == ["n.bias", "fc.weight", "x"]


def test_a_stream_of_suffixed_modules_beside_a_norm_of_its_own_width_is_found() -> None:
    """Modules counted by a suffix; a stem whose numbers would make a role of unlike modules."""
    rng = np.random.default_rng(0)
    rows = {"stem.0.weight": rng.normal(size=(PROBES, 24))}
    for name in ("stem.0.bias", "stem.2.weight", "stem.2.bias"):
        rows[name] = rng.normal(size=(PROBES, 16))
    for i in range(30):
        for name in ("norm.bias", "out.weight", "down.weight"):
            rows[f"layers.layer_{i}.{name}"] = rng.normal(size=(PROBES, 16))
    writers = [n for n in rows if "out" in n or "down" in n or n.startswith("stem.2")]
    rows["stem.2.weight"] -= sum(rows[n].sum(axis=1) for n in writers)[:, None] / 16
    ledger = ledger_of(rows)
    search_totals(ledger)
    (stream,) = ledger.found
    assert {name for name, _ in stream.pattern} == set(writers)


@pytest.mark.parametrize("side", [1, -1])
def test_of_a_rescaling_the_larger_side_is_eliminated(side: int) -> None:
    """So that a layer scale stands for the weight and bias it multiplies."""
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(2, PROBES, 9))
    names = ("scale", "linear.weight", "linear.bias")[::side]
    values = dict(
        zip(("scale", "linear.weight", "linear.bias"), (weight + bias, weight, bias), strict=True)
    )
    ledger = ledger_of({name: values[name] for name in names})
    search_profiles(ledger)
    assert {symmetry.kind for symmetry in ledger.found} == {"rescale"}
    assert "scale" in ledger.open_tensors()
    assert len(ledger.open_tensors()) == 2


@pytest.mark.parametrize("depth", [2, 30])
def test_a_stream_is_found_however_deep(depth: int) -> None:
    rng = np.random.default_rng(depth)
    rows = {"embed.weight": rng.normal(size=(PROBES, 50))}
    for i in range(depth):
        for name in ("q", "v", "out", "up", "down"):
            rows[f"blocks.{i}.{name}.weight"] = rng.normal(size=(PROBES, 17))
    writers = [n for n in rows if "out" in n or "down" in n]
    total = sum(rows[n].sum(axis=1) for n in writers) + rows["embed.weight"][:, 1:].sum(axis=1)
    rows["embed.weight"][:, 0] = -total
    ledger = ledger_of(rows)
    search_profiles(ledger)
    search_totals(ledger)
    (stream,) = ledger.found
    assert stream.kind == "scale"
    assert {name for name, _ in stream.pattern} == {"embed.weight", *writers}
