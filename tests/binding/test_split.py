"""Which parameters go where, and why."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from spherical_motion.errors import InvalidArgument
from spherical_motion.invariance import find_groups, inspect_model
from spherical_motion.optim import ExponentialSchedule, ProportionalDecay, split_param_groups
from spherical_motion.vocabulary import InvariantGroup, Slice


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6, bias=False),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.Linear(6, 5),
        nn.LayerNorm(5),
        nn.Linear(5, 2),
    )


def names(model: nn.Module, params: list[torch.Tensor]) -> list[str]:
    of = {id(p): name for name, p in model.named_parameters()}
    return [of[id(p)] for p in params]


def group(name: str, *slices: Slice, defect: float = 0.0) -> InvariantGroup:
    return InvariantGroup(name, "scale", slices, (slices,), sum(s.length for s in slices), defect)


@pytest.mark.parametrize("granularity", ["layer", "filter"])
def test_both_granularities_split_alike(granularity) -> None:
    model = network()
    groups = find_groups(model, torch.randn(16, 4), granularity)
    invariant, others = split_param_groups(model, groups, lr=0.1, weight_decay=1e-3)
    assert names(model, invariant["params"]) == ["0.weight", "3.weight", "3.bias"]
    assert invariant["invariant"] is True
    assert others["invariant"] is False
    assert [p.shape for p in others["params"]] == [
        p.shape for n, p in model.named_parameters() if n in names(model, others["params"])
    ]
    assert len(others["params"]) == 6
    assert (invariant["lr"], others["weight_decay"]) == (0.1, 1e-3)


def test_training_is_the_same_until_something_acts() -> None:
    weights = []
    for split in (False, True):
        model = network()
        groups = find_groups(model, torch.randn(16, 4))
        params = split_param_groups(model, groups) if split else model.parameters()
        optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(16, 4, generator=generator)).square().mean().backward()
            optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)


def test_param_groups_keep_their_own_settings() -> None:
    model = network()
    groups = find_groups(model, torch.randn(16, 4))
    early, late = [*model[:3].parameters()], [*model[3:].parameters()]
    given = [{"params": early, "lr": 0.01}, {"params": late, "weight_decay": 0.5}]
    for params in (given, torch.optim.SGD([dict(g) for g in given], lr=0.1)):
        split = split_param_groups(
            model, groups, params, lr=0.1, others={"weight_decay": 0.0}, nesterov=False
        )
        assert [(g["invariant"], g["lr"], len(g["params"])) for g in split] == [
            (True, 0.01, 1),
            (False, 0.01, 2),
            (True, 0.1, 2),
            (False, 0.1, 4),
        ]
        assert [g["weight_decay"] for g in split if not g["invariant"]] == [0.0, 0.0]
        assert split[2]["weight_decay"] == 0.5


def test_names_follow_their_parameters() -> None:
    model = network()
    groups = find_groups(model, torch.randn(16, 4))
    named = torch.optim.SGD(model.named_parameters(), lr=0.1)
    for half in split_param_groups(model, groups, named):
        assert half["param_names"] == names(model, half["params"])


def test_what_keeps_a_parameter_with_the_others_is_said(caplog) -> None:
    model = network()
    rows = group("rows", Slice("0.weight", 0, 0, 4))
    joint = group("joint", Slice("3.weight", 0, 0, 5), Slice("3.bias", 0, 0, 5))
    split = split_param_groups(model, [rows, joint])
    assert names(model, split[0]["params"]) == ["3.weight", "3.bias"]
    assert "0.weight (groups cover only part of '0.weight': not 4:6 along axis 0)" in said(caplog)

    whole = group("whole", Slice("0.weight", 0, 0, 6))
    separately = [{"params": [model[3].bias], "weight_decay": 0.0}]
    separately.append({"params": [p for p in model.parameters() if p is not model[3].bias]})
    split = split_param_groups(model, [whole, joint], separately)
    assert [names(model, g["params"]) for g in split if g["invariant"]] == [["0.weight"]]
    assert "members of group 'joint' (3.weight, 3.bias) are stepped with different" in said(caplog)

    model[3].bias.requires_grad_(False)
    split = split_param_groups(model, [whole, joint])
    assert names(model, split[0]["params"]) == ["0.weight"]
    assert "'3.bias', a member of group 'joint', is frozen" in said(caplog)
    assert sum(len(g["params"]) for g in split) == len(list(model.parameters()))

    split = split_param_groups(model, [dataclasses.replace(whole, defect=0.2)])
    assert [g["invariant"] for g in split] == [False]
    assert "has a defect of 0.2, above 0.1" in said(caplog)
    split_param_groups(model, [dataclasses.replace(whole, defect=float("nan"))])
    assert "nobody has proven" in said(caplog)
    split_param_groups(model, [dataclasses.replace(whole, kind="rescale")])
    assert "a rescaling symmetry" in said(caplog)


def said(caplog) -> str:
    text = "\n".join(caplog.messages)
    caplog.clear()
    return text


def test_of_groups_that_share_a_bias_the_larger_counts(caplog) -> None:
    """Scaling each once is a symmetry only of groups that share nothing."""
    model = network()
    weight = group("3", Slice("3.weight", 0, 0, 5), Slice("3.bias", 0, 0, 5))
    weight = dataclasses.replace(weight, numel=35)
    writers = group("writers", Slice("1.weight", 0, 0, 6), Slice("3.bias", 0, 0, 5))
    for order in ([weight, writers], [writers, weight]):
        split = split_param_groups(model, order)
        assert names(model, split[0]["params"]) == ["3.weight", "3.bias"]
        assert "group 'writers' shares 3.bias[0:5] with '3'" in said(caplog)
    crossed = group("column", Slice("3.weight", 1, 0, 1))
    split = split_param_groups(model, [crossed, weight])
    assert names(model, split[0]["params"]) == ["3.weight", "3.bias"]
    assert said(caplog) == ""  # the column's parameter is invariant as a whole all the same


def test_tied_parameters_appear_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    split = split_param_groups(model, [group("a", Slice("1.weight", 0, 0, 4))])
    assert sorted(len(g["params"]) for g in split) == [1, 2]
    torch.optim.SGD(split, lr=0.1)


def test_bad_input() -> None:
    model = network()
    with pytest.raises(InvalidArgument, match=r"'0\.wieght', which .* Closest: 0\.weight, "):
        split_param_groups(model, [group("x", Slice("0.wieght", 0, 0, 4))])
    with pytest.raises(InvalidArgument, match=r"does not fit a parameter of shape \(6, 4\)"):
        split_param_groups(model, [group("x", Slice("0.weight", 0, 0, 7))])
    for bad in (None, 3, "0", ["0"], [None], group("0", Slice("0.weight", 0, 0, 6))):
        with pytest.raises(InvalidArgument, match=r"groups=\.\.\.\) expects (invariant|at least)"):
            split_param_groups(model, bad)
    with pytest.raises(InvalidArgument, match=r"must have 'params'.*got the keys \['lr'\]"):
        split_param_groups(model, [], [{"lr": 1}])
    with pytest.raises(InvalidArgument, match=r"expects an optimizer, parameters or.*got 5"):
        split_param_groups(model, [], 5)
    for bad in ("0.1", -1.0, float("nan")):
        with pytest.raises(InvalidArgument, match=r"max_defect=\.\.\.\) must be a number >= 0 or"):
            split_param_groups(model, [], max_defect=bad)
    twice = [*model.parameters(), model[0].weight]
    with pytest.raises(InvalidArgument, match=r"shape \(6, 4\) is given twice"):
        split_param_groups(model, [], twice)
    with pytest.raises(InvalidArgument, match=r"got a tuple among the parameters"):
        split_param_groups(model, [], [{"params": list(model.named_parameters())}])


def test_an_inspection_is_as_good_as_its_groups() -> None:
    model = network()
    inspection = inspect_model(model, torch.randn(16, 4))
    split = split_param_groups(model, inspection)
    assert names(model, split[0]["params"]) == ["0.weight", "3.weight", "3.bias"]


def test_without_a_largest_defect_every_group_counts(caplog) -> None:
    model = network()
    for defect in (0.5, float("nan")):
        whole = group("whole", Slice("0.weight", 0, 0, 6), defect=defect)
        split = split_param_groups(model, [whole], max_defect=None)
        assert names(model, split[0]["params"]) == ["0.weight"]
    assert said(caplog) == ""


def test_what_is_wrong_with_the_groups_is_said_and_not_of_the_split() -> None:
    """No groups, another model's optimizer and a bad group each have a message of their own."""
    model = network()
    groups = find_groups(model, torch.randn(16, 4))
    split = split_param_groups(model, groups, lr=0.1, weight_decay=0.1)
    optimizer = torch.optim.SGD(split)
    for make in (ProportionalDecay, ExponentialSchedule):
        with pytest.raises(InvalidArgument, match=r"expects at least one group.* got \[\]"):
            make(model, optimizer, [])
        with pytest.raises(InvalidArgument, match=r"expects at least one group.* got None"):
            make(model, optimizer, None)
        with pytest.raises(InvalidArgument, match=r"steps no member of these groups.*very model"):
            make(network(), optimizer, groups)
        bad = [groups[0], dataclasses.replace(groups[1], defect=0.3)]
        with pytest.raises(
            InvalidArgument,
            match=r"split off .*'3\.weight', .*defect of 0\.3, above 0\.1.*the same",
        ):
            make(model, optimizer, bad)
