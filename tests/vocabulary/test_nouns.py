from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import (
    Gram,
    HyperParameters,
    InvariantGroup,
    Schedule,
    Slice,
    Verdict,
    VerdictKind,
)
from spherical_motion.vocabulary.gram import PRODUCTS
from spherical_motion.vocabulary.groups import strip_wrappers
from spherical_motion.vocabulary.hyperparameters import pull_scale, settings_of
from spherical_motion.vocabulary.stages import SHORTEST_STAGE

# HyperParameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", -0.1),
        ("lr", math.nan),
        ("weight_decay", -1e-4),
        ("weight_decay", math.inf),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("beta2", 1.0),
        ("eps", -1.0),
    ],
)
def test_bad_settings_are_refused_by_name_and_value(field: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=rf"HyperParameters\({field}=.*got {value!r}"):
        HyperParameters(**{"optimizer": "sgd", "lr": 0.1, field: value})


def test_unknown_optimizer_is_refused_and_other_is_offered() -> None:
    with pytest.raises(InvalidArgument, match=r"'rprop'.*Use 'other'"):
        HyperParameters("rprop", lr=0.1)


def test_betas_are_momentum_and_beta2_and_exclude_them() -> None:
    hp = HyperParameters("adamw", lr=1e-3, betas=(0.8, 0.95))
    assert (hp.momentum, hp.beta2) == (0.8, 0.95)
    with pytest.raises(InvalidArgument, match="not both"):
        HyperParameters("adamw", lr=1e-3, momentum=0.9, betas=(0.8, 0.95))


def test_settings_are_frozen() -> None:
    hp = HyperParameters("sgd", lr=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        hp.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("class_name", "group", "optimizer", "decoupled"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "dampening": 0}, "sgd", False),
        ("Adam", {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}, "adam", False),
        ("AdamW", {"lr": 0.1, "betas": (0.9, 0.99), "decoupled_weight_decay": True}, "adamw", True),
        ("Adam", {"lr": 0.1, "betas": (0.9, 0.99), "decoupled_weight_decay": True}, "adamw", True),
        ("AdamW", {"lr": 0.1, "betas": (0.9, 0.99), "amsgrad": True}, "amsgrad", True),
        ("Adam", {"lr": 0.1, "betas": (0.9, 0.99), "amsgrad": True}, "amsgrad", False),
        ("RAdam", {"lr": 0.1, "betas": (0.9, 0.99)}, "radam", False),
        ("NAdam", {"lr": 1, "betas": (0.9, 0), "decoupled_weight_decay": True}, "nadam", True),
        ("Adamax", {"lr": 0.1, "betas": (0.9, 0.99)}, "adamax", False),
        ("RMSprop", {"lr": 0.1, "momentum": 0.5}, "rmsprop", False),
        ("Adagrad", {"lr": 0.1}, "adagrad", False),
        ("AdamW", {"lr": 0.1, "betas": (0.9, 0.99), "caution": True}, "other", True),
        ("Lion", {"lr": 0.1, "betas": (0.9, 0.99)}, "lion", True),
        ("PagedLion8bit", {"lr": 0.1, "betas": (0.9, 0.99)}, "lion", True),
        ("Lion", {"lr": 0.1, "betas": (0.9, 0.99), "cautious_factor": 0.5}, "other", True),
        ("Muon", {"lr": 0.1, "momentum": 0.95, "nesterov": True}, "muon", True),
        ("MuonWithAuxAdam", {"lr": 0.1, "momentum": 0.95, "use_muon": True}, "muon", True),
        ("MuonWithAuxAdam", {"lr": 0.1, "betas": (0.8, 0.9), "use_muon": False}, "adamw", True),
        ("Unheard", {"lr": 0.1}, "other", False),
        ("Unheard", {"lr": 0.1, "decoupled_weight_decay": True}, "other", True),
    ],
)
def test_param_groups_are_read(class_name, group, optimizer, decoupled) -> None:
    hp = HyperParameters.from_param_group(class_name, group)
    assert (hp.optimizer, hp.decoupled) == (optimizer, decoupled)
    assert hp.nesterov == bool(group.get("nesterov"))


def test_settings_of_reads_real_torch_groups() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(2))
    adamw = torch.optim.AdamW([parameter], lr=torch.tensor(0.5), betas=(0.8, 0.9))
    assert settings_of(adamw.param_groups[0]) == (0.5, 0.01, 0.8, 0.9)
    sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.7, weight_decay=0.2)
    assert settings_of(sgd.param_groups[0]) == (0.1, 0.2, 0.7, None)


def test_muon_of_torch_is_read_with_its_decoupled_decay() -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    muon = torch.optim.Muon([torch.nn.Parameter(torch.zeros(2, 2))], lr=0.02, weight_decay=0.1)
    hp = HyperParameters.from_param_group("Muon", muon.param_groups[0])
    assert (hp.optimizer, hp.decoupled, hp.momentum) == ("muon", True, 0.95)
    assert hp.intrinsic_lr == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({"momentum": 0.9}, 1.0),
        ({"dampening": 0.5}, 1.0),  # torch ignores it without momentum
        ({"momentum": 0.9, "dampening": 0.5}, 0.5),
        ({"momentum": 0.9, "nesterov": True}, 1.0),
        ({"decoupled": True}, 1.0),
        ({"momentum": 0.75, "decoupled": True}, 4.0),
        ({"momentum": 0.75, "decoupled": True, "dampening": 0.5}, 2.0),
    ],
)
def test_pull_scale_of_sgd(settings, scale) -> None:
    assert pull_scale(HyperParameters("sgd", lr=0.1, **settings)) == pytest.approx(scale)


def test_pull_scale_of_others_is_one_and_momentum_may_change() -> None:
    for name in ("adam", "adamw", "lion", "muon", "other"):
        assert pull_scale(HyperParameters(name, lr=0.1, momentum=0.9)) == 1.0
    hp = HyperParameters("sgd", lr=0.1, momentum=0.9, decoupled=True)
    assert pull_scale(hp, np.array([0.0, 0.5])).tolist() == [1.0, 2.0]


# Schedule


def sgd(lr: float = 0.1) -> HyperParameters:
    return HyperParameters("sgd", lr=lr, weight_decay=1e-4, momentum=0.9)


def test_stages_cover_the_run_without_gaps_and_warm_up_is_one_varying_stage() -> None:
    lr = np.concatenate([np.linspace(0.01, 0.1, 50), np.full(100, 0.1), np.full(100, 0.01)])
    stages = Schedule(sgd(), lr, start=7).stages()
    assert [(s.start, s.stop) for s in stages] == [(7, 56), (56, 157), (157, 257)]
    assert stages[0].hp is None
    assert [s.hp.lr for s in stages[1:]] == [0.1, 0.01]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.integers(1, 60)), min_size=1, max_size=12
    )
)
def test_stages_partition_any_schedule(runs) -> None:
    lr = np.concatenate([np.full(length, value) for value, length in runs])
    stages = Schedule(sgd(), lr).stages()
    assert stages[0].start == 0
    assert stages[-1].stop == lr.size
    for a, b in itertools.pairwise(stages):
        assert a.stop == b.start
        assert not (a.hp is None and b.hp is None)
    for stage in stages:
        inside = lr[stage.start : stage.stop]
        if stage.hp is not None:
            assert stage.steps >= SHORTEST_STAGE or len(stages) == 1
            assert (inside == stage.hp.lr).all()


@pytest.mark.parametrize("milestones", [[0, 10], [10, 10], [20, 10], [10, 100], [10, 200]])
def test_milestones_out_of_order_are_refused(milestones) -> None:
    with pytest.raises(InvalidArgument, match="milestones"):
        Schedule.step_decay(sgd(), steps=100, milestones=milestones)


def test_a_bad_value_in_a_schedule_is_named_by_its_index() -> None:
    lr = np.full(10, 0.1)
    lr[4] = np.nan
    with pytest.raises(InvalidArgument, match=r"Schedule\(lr=.*got nan at index 4"):
        Schedule(sgd(), lr, start=100)
    with pytest.raises(InvalidArgument, match=r"Schedule\(momentum=.* < 1, got 1\.0 at index 0"):
        Schedule(sgd(), np.full(3, 0.1), momentum=np.ones(3))
    with pytest.raises(InvalidArgument, match="expects 3 values like lr"):
        Schedule(sgd(), np.full(3, 0.1), weight_decay=np.ones(2))


def test_at_gives_the_settings_of_one_step() -> None:
    plan = Schedule(sgd(), [0.1, 0.2], weight_decay=[0.0, 0.5], momentum=[0.9, 0.8], start=5)
    assert plan.at(6) == HyperParameters("sgd", lr=0.2, weight_decay=0.5, momentum=0.8)
    with pytest.raises(InvalidArgument, match=r"\[5, 7\), got 7"):
        plan.at(7)


# Gram


def test_grams_of_disjoint_slices_add() -> None:
    rng = np.random.default_rng(0)
    w, d, g = rng.standard_normal((3, 40))

    def gram(part: slice) -> Gram:
        x, y, z = w[part], d[part], g[part]
        return Gram(x @ x, x @ y, y @ y, x @ z, z @ z, y @ z)

    whole, parts = gram(slice(None)), gram(slice(0, 13)) + gram(slice(13, 40))
    np.testing.assert_allclose(parts.to_array(), whole.to_array(), rtol=1e-13)


@pytest.mark.parametrize("count", [6, 7, 8])
def test_gram_round_trips_through_one_array_and_stacks(count: int) -> None:
    array = np.arange(4.0 * count).reshape(4, count)
    gram, names = Gram.from_array(array), PRODUCTS[:count]
    assert gram.shape == (4,)
    np.testing.assert_array_equal(gram.to_array(names), array)
    np.testing.assert_array_equal(gram.to_array(), array[:, :6])
    np.testing.assert_array_equal(Gram.stack([gram, gram], axis=1).ww, np.stack([gram.ww] * 2, 1))
    np.testing.assert_array_equal(gram[1].to_array(names), array[1])
    np.testing.assert_array_equal(gram.sum(0).to_array(names), array.sum(0))
    np.testing.assert_array_equal((gram + gram).to_array(names), 2.0 * array)
    assert tuple(f.name for f in dataclasses.fields(gram)) == PRODUCTS
    assert all(np.isnan(getattr(gram, name)).all() for name in PRODUCTS[count:])


SIX_IN_PIECES = {
    "itself": lambda gram: gram,
    "sum of two": lambda gram: gram + gram,
    "every second step": lambda gram: gram[::2],
    "chosen steps": lambda gram: gram[np.arange(0, len(gram.ww), 3)],
    "steps that are true": lambda gram: gram[gram.ww > 0],
    "sum": lambda gram: gram.sum(1),
    "stack": lambda gram: Gram.stack([gram, gram]),
    "from an array": lambda gram: Gram.from_array(gram.to_array()),
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickled": lambda gram: pickle.loads(pickle.dumps(gram)),
}


@pytest.mark.parametrize("name", SIX_IN_PIECES)
def test_six_products_take_the_memory_of_six_arrays(name: str) -> None:
    """Allocated memory, measured: the two that are unknown take none, whatever made the Gram."""
    gram = Gram(*np.ones((6, 3000, 5)))
    tracemalloc.start()
    made = SIX_IN_PIECES[name](gram)
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    six = sum(getattr(made, field).nbytes for field in PRODUCTS[:6])
    assert allocated <= six + 20_000  # one array more would be at least 24,000
    for absent in (made.wp, made.ws):
        assert absent.shape == made.shape
        assert np.isnan(absent).all()
        assert absent.base is not None
        assert not any(absent.strides)
        with pytest.raises(ValueError, match="read-only"):
            absent[...] = 0.0


def test_what_one_gram_does_not_know_is_unknown_of_the_sum_and_kept_in_a_stack() -> None:
    seven, six = Gram(*np.ones((7, 4))), Gram(*np.ones((6, 4)))
    assert np.isnan((seven + six).wp).all()
    assert np.isnan((six + seven).wp).all()
    stacked = Gram.stack([seven, six, seven])
    assert np.array_equal(stacked.wp, [[1.0] * 4, [np.nan] * 4, [1.0] * 4], equal_nan=True)
    assert np.isnan(stacked.ws).all()
    again = pickle.loads(pickle.dumps(seven))
    assert np.array_equal(again.to_array(PRODUCTS), seven.to_array(PRODUCTS), equal_nan=True)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0)])
def test_a_gram_may_be_a_number_or_empty(shape: tuple[int, ...]) -> None:
    gram = Gram(*np.ones((6, *shape)))
    assert gram.wp.shape == gram.shape == shape
    assert (gram + gram).ws.shape == shape
    assert pickle.loads(pickle.dumps(gram)).wp.shape == shape


def test_gram_refuses_shapes_that_do_not_match() -> None:
    with pytest.raises(InvalidArgument, match=r"one shape, got ww\(2,\), wd\(3,\)"):
        Gram(np.ones(2), np.ones(3), np.ones(2), np.ones(2), np.ones(2), np.ones(2))
    with pytest.raises(InvalidArgument, match="last axis of length 6 to 8"):
        Gram.from_array(np.ones((6, 5)))


# Groups and verdicts


def test_overlapping_slices_would_be_counted_twice() -> None:
    a, b = Slice("w", 0, 0, 4), Slice("w", 0, 3, 6)
    with pytest.raises(InvalidArgument, match="overlap"):
        InvariantGroup("w", "scale", (b, a), (), 6)
    InvariantGroup("w", "scale", (Slice("w", 0, 4, 6), a), (), 6)
    with pytest.raises(InvalidArgument, match="0 <= start < stop"):
        Slice("w", 0, 3, 3)


def test_a_group_without_a_measured_defect_is_not_proven() -> None:
    piece = Slice("w", 0, 0, 4)
    assert not InvariantGroup("w", "scale", (piece,), ((piece,),), 4).proven
    assert InvariantGroup("w", "scale", (piece,), ((piece,),), 4, defect=0.0).proven


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("module.conv.weight", "conv.weight"),
        ("_orig_mod.conv.weight", "conv.weight"),
        ("conv._orig_mod.weight", "conv.weight"),
        ("module.module.weight", "weight"),
        ("backbone.module.weight", "backbone.module.weight"),
        ("module", "module"),
    ],
)
def test_wrappers_are_stripped_from_names(name: str, bare: str) -> None:
    assert strip_wrappers(name) == bare


def test_verdict_keeps_its_evidence_and_protects_it() -> None:
    verdict = Verdict(VerdictKind.OFF, "why", {"ratio": 2.0})
    assert str(verdict) == "off: why"
    with pytest.raises(TypeError):
        verdict.evidence["ratio"] = 1.0  # type: ignore[index]


def test_powers_belong_to_the_slices_of_a_rescaling() -> None:
    gain, weight = Slice("n.weight", 0, 0, 4), Slice("fc.weight", 1, 0, 4)
    assert InvariantGroup("n / fc", "rescale", (gain, weight), (), 8, powers=(1, -1)).powers
    with pytest.raises(InvalidArgument, match="2 slices"):
        InvariantGroup("n / fc", "rescale", (gain, weight), (), 8, powers=(1,))
    with pytest.raises(InvalidArgument, match="powers must be one for each slice"):
        InvariantGroup("n + fc", "scale", (gain, weight), (), 8, powers=(1, 1))
