"""All groups of a model: each stepped matrix once, certified or plain."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch
from torch import nn
from watchable import CASES, Case, HalfNormed, TiedGPT, Unrunnable, mlp, partly_certified

import spherical_motion as smd
from spherical_motion.binding import bind, disjoint_groups, with_plain
from spherical_motion.errors import InvalidArgument, ModelError
from spherical_motion.vocabulary import InvariantGroup, Slice


def made(case: Case) -> tuple[nn.Module, torch.optim.Optimizer, torch.Tensor]:
    torch.manual_seed(0)
    model = case.make()
    return model, case.optimizer(model.parameters(), lr=1e-2), case.inputs()


def entries_of(model: nn.Module, groups: Sequence[InvariantGroup]) -> dict[str, torch.Tensor]:
    """For each parameter, how many groups each of its entries lies in."""
    counts = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    for group in groups:
        for s in group.slices:
            torch.atleast_1d(counts[s.parameter]).narrow(s.axis, s.start, s.length).add_(1)
    return counts


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_matrix_is_certified_or_plain(case: Case) -> None:
    model, optimizer, inputs = made(case)
    groups = smd.all_groups(model, optimizer, inputs)
    certified = [group for group in groups if group.kind == "scale"]
    plain = [group for group in groups if group.kind == "plain"]
    assert tuple(group.name for group in certified) == tuple(case.certified)
    assert tuple(group.name for group in plain) == tuple(case.plain)
    assert len({group.name for group in groups}) == len(groups)
    once, proven = entries_of(model, groups), entries_of(model, certified)
    for name, parameter in model.named_parameters():
        own = [group for group in plain if name in group.parameters]
        if parameter.ndim >= 2:
            assert bool((once[name] > 0).all()), name
        needed = parameter.ndim >= 2 and not bool((proven[name] > 0).all())
        assert len(own) == needed, name
    for group in plain:
        (piece,) = group.slices
        assert group.numel == model.get_parameter(piece.parameter).numel()
        assert not group.cells
        assert not group.proven


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_without_inputs_all_are_plain_and_vectors_come_on_demand(case: Case) -> None:
    model, optimizer, _ = made(case)
    matrices = smd.all_groups(model, optimizer)
    both = smd.all_groups(model, optimizer, vectors=True)
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    assert {group.kind for group in both} == {"plain"}
    assert [g.parameters for g in both] == [(name,) for name in shapes]
    assert [g for g in both if shapes[g.parameters[0]] >= 2] == list(matrices)


def test_the_model_does_not_run_and_stays_as_it_is() -> None:
    model = Unrunnable()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    groups = smd.all_groups(model, optimizer, vectors=True)
    assert [(g.name, g.numel) for g in groups] == [("temperature", 1), ("fc", 12), ("fc.bias", 3)]
    with pytest.raises(ModelError, match="this model runs in its trainer only"):
        smd.all_groups(model, optimizer, torch.ones(1))


def test_wrappers_do_not_change_names_and_tied_weights_appear_once() -> None:
    model = TiedGPT()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = nn.Module()  # named as torch.compile does
    compiled.add_module("_orig_mod", model)
    expected = smd.all_groups(model, optimizer, vectors=True)
    assert smd.all_groups(nn.DataParallel(model), optimizer, vectors=True) == expected
    assert smd.all_groups(compiled, optimizer, vectors=True) == expected
    touched = [name for group in expected for name in group.parameters]
    assert len(touched) == len(set(touched)) == len(list(model.parameters()))
    assert "head.weight" not in touched


class Odd(nn.Module):
    """Parameters of each sort that cannot be watched, and one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Parameter(torch.ones(2, 3))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        self.unstepped = nn.Parameter(torch.ones(2, 2))
        self.twice = nn.Parameter(torch.ones(2, 2))
        self.short = nn.Parameter(torch.ones(2, 2).to(torch.float8_e4m3fn))
        self.paired = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))
        self.blank = nn.Parameter(torch.ones(2, 2, device="meta"))
        self.none = nn.Parameter(torch.ones(0, 2))
        self.lazy = nn.LazyLinear(3)


def test_what_cannot_be_watched_is_left_out_with_its_reason(caplog) -> None:
    model = Odd()
    stepped = [p for name, p in model.named_parameters() if name != "unstepped"]
    optimizers = [torch.optim.SGD(stepped, lr=0.1), torch.optim.SGD([model.twice], lr=0.1)]
    with caplog.at_level(logging.WARNING, "spherical_motion"):
        (group,) = smd.all_groups(model, optimizers)
    assert group == InvariantGroup("good", "plain", (Slice("good", 0, 0, 2),), (), 6)
    (line,) = caplog.messages
    for reason in (
        "frozen (frozen)",
        "unstepped (not stepped by the optimizer)",
        "twice (stepped by 2 param groups)",
        "short (torch.float8_e4m3fn on cpu, which cannot be measured yet)",
        "paired (torch.complex64 on cpu",
        "blank (torch.float32 on meta",
        "none (empty)",
        "lazy.weight and lazy.bias (without a shape until the model has run)",
    ):
        assert reason in line


def test_many_of_one_reason_are_counted(caplog) -> None:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    smd.all_groups(model, torch.optim.SGD(model[:2].parameters(), lr=0.1))
    assert "2.weight, 3.weight, 4.weight and 4 more (not stepped by the" in caplog.text
    assert "bias" not in caplog.text


def test_a_certified_group_with_a_member_that_stays_gives_way_to_its_matrix(caplog) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    inputs = torch.randn(16, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert smd.all_groups(model, optimizer, inputs)[0].kind == "scale"
    model[0].bias.requires_grad_(False)
    first, head = smd.all_groups(model, optimizer, inputs)
    assert (first.name, first.kind, first.numel) == ("0", "plain", 40)
    assert head.name == "2"
    assert "all_groups leaves out 0.bias (frozen)" in caplog.text


def test_a_certified_group_of_two_optimizers_gives_way_to_its_matrix(caplog) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    biases = [p for p in model.parameters() if p.ndim == 1]
    others = [p for p in model.parameters() if p.ndim == 2]
    optimizers = [torch.optim.SGD(biases, lr=0.1), torch.optim.Adam(others)]
    groups = smd.all_groups(model, optimizers, torch.randn(16, 5))
    assert [(g.name, g.kind) for g in groups] == [("0", "plain"), ("2", "plain")]
    assert "0 (its members are stepped by several optimizers)" in caplog.text


def test_names_stay_distinct_whatever_the_certified_groups_are_called() -> None:
    model = HalfNormed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    part = Slice("fc.weight", 0, 0, 6)
    for taken, expected in (
        (["fc"], "fc.weight"),
        (["fc", "fc.weight"], "fc.weight (whole)"),
        (["fc", "fc.weight", "fc.weight (whole)"], "fc.weight (whole) (whole)"),
    ):
        proven = [InvariantGroup(name, "scale", (part,), (), 30, 0.0) for name in taken]
        groups = with_plain(model, [optimizer], proven, where="watch")
        assert [g.name for g in groups] == [*taken, expected, "head"]


def test_slices_along_two_axes_cover_a_matrix_only_if_one_axis_is_covered() -> None:
    model = nn.Linear(4, 6, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows, columns = Slice("weight", 0, 0, 5), Slice("weight", 1, 0, 3)

    def kinds(*slices: Slice) -> list[str]:
        proven = [InvariantGroup(str(s), "scale", (s,), (), 1, 0.0) for s in slices]
        return [g.kind for g in with_plain(model, [optimizer], proven, where="watch")]

    assert kinds(rows, columns) == ["scale", "scale", "plain"]  # weight[5, 3] lies in neither
    assert kinds(rows, columns, Slice("weight", 1, 3, 4)) == ["scale"] * 3
    assert kinds(Slice("weight", 0, 5, 6), rows) == ["scale", "scale"]


@pytest.mark.parametrize(
    ("make", "optimizer_of", "message"),
    [
        (mlp, lambda m: mlp().parameters(), "found none: 0.weight and 2.weight .not stepped by"),
        (mlp, lambda m: [m[0].bias], r"only gains and biases. vectors=True watches"),
        (
            lambda: mlp().to(torch.float8_e4m3fn),
            lambda m: m.parameters(),
            r"float8.*cannot be measured yet",
        ),
        (
            lambda: mlp().to(torch.float8_e5m2),
            lambda m: m.parameters(),
            r"measured yet.\. Keep the weights in float32(?!.*very model)",
        ),
        (
            lambda: mlp().requires_grad_(False),
            lambda m: m.parameters(),
            r"\(frozen\). Call requires_grad_(?!.*very model)",
        ),
        (nn.ReLU, lambda m: mlp().parameters(), "ReLU, which has no parameters"),
        (lambda: "model", lambda m: mlp().parameters(), "expects a torch.nn.Module, got str"),
    ],
)
def test_nothing_to_watch_is_an_error_with_its_reason(make, optimizer_of, message: str) -> None:
    model = make()
    with pytest.raises(InvalidArgument, match=message):
        smd.all_groups(model, torch.optim.SGD(optimizer_of(model), lr=0.1))


def test_granularity_is_of_the_certified_groups() -> None:
    model = partly_certified()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    groups = smd.all_groups(model, optimizer, torch.randn(8, 1, 6, 6), granularity="filter")
    assert [g.name for g in groups] == ["0[0:2]", "0[2:4]", "3", "6"]


TOOLS = {
    "bind": bind,
    "RescaleOnDecay": lambda m, g, o: smd.optim.RescaleOnDecay(m, o, g),
    "Rotational": lambda m, g, o: smd.optim.Rotational(m, o, g),
    "AdaGradG": lambda m, g, o: smd.optim.AdaGradG(m, g, lr=0.1, beta=0.9),
    "ProportionalDecay": lambda m, g, o: smd.optim.ProportionalDecay(m, o, g),
    "ExponentialSchedule": lambda m, g, o: smd.optim.ExponentialSchedule(m, o, g),
}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_steering_refuses_plain_groups(tool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(InvalidArgument, match=r"group '0' is plain: .* Steering needs .*find_grou"):
        tool(model, smd.all_groups(model, optimizer), optimizer)


def test_param_groups_and_disjoint_groups_pass_plain_groups_over() -> None:
    model = HalfNormed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    inputs = torch.randn(16, 5)
    groups, certified = smd.all_groups(model, optimizer, inputs), smd.find_groups(model, inputs)
    assert len(groups) == 3
    assert disjoint_groups(groups) == disjoint_groups(certified) == certified
    split = [smd.optim.split_param_groups(model, given, optimizer) for given in (groups, certified)]
    flags = [[(g["invariant"], len(g["params"])) for g in each] for each in split]
    assert flags[0] == flags[1] == [(False, 6)]
