"""Why not: each kind of reason on a network made for it, with the module and the number."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spherical_motion.invariance import inspect_model


def vectors(width: int = 5, batch: int = 16) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(2))


def reasons(model: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    return {u.parameter: u.reason for u in inspect_model(model, inputs).uncovered}


def number(reason: str) -> float:
    found = re.search(r"= ([\d.e+-]+)", reason)
    assert found, reason
    return float(found.group(1))


class Mixed(nn.Module):
    """What is not invariant for as many reasons as there are parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict(
            {
                "shifted": nn.Linear(5, 6, bias=False),
                "norm": nn.LayerNorm(6),
                "before_eval": nn.Linear(6, 6),
                "eval_norm": nn.BatchNorm1d(6),
                "batch": nn.Linear(6, 6),
                "batch_norm": nn.BatchNorm1d(6, affine=False),
                "clipped": nn.Linear(6, 6, bias=False),
                "last_norm": nn.LayerNorm(6, elementwise_affine=False),
                "head": nn.Linear(6, 3),
                "unused": nn.Linear(2, 2),
            }
        )
        self.inner["eval_norm"].eval()
        self.inner["head"].requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers = self.inner
        x = layers["norm"](layers["shifted"](x) + torch.linspace(0, 1, 6)).tanh()
        x = layers["eval_norm"](layers["before_eval"](x)).tanh()
        x = layers["batch_norm"](layers["batch"](x)).sigmoid()
        x = layers["last_norm"](layers["clipped"](x).clamp(-6.0, 6.0))
        return layers["head"](x)


def test_each_parameter_has_the_reason_that_applies() -> None:
    why = reasons(Mixed(), vectors())
    assert "`inner.norm` runs after it, but something beside it" in why["inner.shifted.weight"]
    assert 0.0 < number(why["inner.shifted.weight"]) < 1.0
    assert "`inner.eval_norm`, is in eval mode" in why["inner.before_eval.weight"]
    assert "a shift in front of a norm layer" in why["inner.batch.bias"]
    assert "only locally invariant" in why["inner.clipped.weight"]
    assert why["inner.head.weight"].startswith("no norm layer was seen to run after it: |⟨w,g⟩|")
    assert why["inner.head.bias"].endswith("; frozen, so it does not move")
    assert "dead or unused" in why["inner.unused.weight"]
    assert "inner.batch.weight" not in why


def test_a_rescaling_is_named_beside_the_reason() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    why = reasons(model, vectors())
    assert why["0.weight"].endswith("; rescales with others as `0 / 2`")
    assert why["2.weight"].endswith("; rescales with others as `0 / 2`")
    assert "rescales" not in why["2.bias"]


def test_a_module_used_by_its_parent_without_a_call_is_placed_at_the_parent() -> None:
    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(5, 4, bias=False), nn.LayerNorm(4)
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.linear(x, self.fc.weight).tanh()
            return self.head(self.norm(x))

    assert "`norm` runs after it" in reasons(Parent(), vectors())["fc.weight"]


@pytest.mark.parametrize(("eps", "share"), [(1e-5, None), (0.25, "`1`")])
def test_a_large_epsilon_is_noted_with_its_share(eps: float, share: str | None) -> None:
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.LayerNorm(6, eps=eps), nn.Tanh())
    notes = [n for n in inspect_model(model, vectors()).notes if n.startswith("ε of")]
    assert len(notes) == (0 if share is None else 1)
    if share:
        x = model[0](vectors()).detach()
        expected = (eps / (x.var(-1, correction=0) + eps)).mean()
        assert f"ε of {share} is {expected:.0%} of variance + ε" in notes[0]


def test_a_bias_in_front_of_a_norm_is_noted_with_what_it_cancels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh())
    found = inspect_model(net, vectors())
    assert [g.parameters for g in found.groups] == [("0.weight", "0.bias")]
    (note,) = found.notes
    assert re.fullmatch(
        r"`0.weight` is invariant only with `0.bias`, whose ⟨b,g⟩ cancels its own ⟨w,g⟩, [\d.]+% "
        r"of ‖w‖‖g‖\.",
        note,
    )
    nn.init.zeros_(net[0].bias)  # now only ε is left of ⟨w, g⟩
    assert inspect_model(net, vectors()).notes == ()
