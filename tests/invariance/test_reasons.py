"""Why not: each kind of reason on a network made for it, with the module and the number.

Which reason applies is a matter of what flows where, and not of what ran when.
"""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spherical_motion.invariance import Uncovered, Why, closest, inspect_model
from spherical_motion.invariance.graph.flow import Site, flow_through, node_of
from spherical_motion.invariance.graph.observer import NormObserver
from spherical_motion.invariance.graph.paths import Paths, paths_to_norms
from spherical_motion.invariance.reasons.explain import RULES
from spherical_motion.invariance.running.interception import Interception
from spherical_motion.vocabulary import CAUSES, Cause, Reason


def vectors(width: int = 5, batch: int = 16) -> torch.Tensor:
    return torch.randn(batch, width, generator=torch.Generator().manual_seed(2))


def reasons(model: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    return {u.parameter: u.reason for u in inspect_model(model, inputs).uncovered}


def causes(model: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    return {u.parameter: u.cause for u in inspect_model(model, inputs).uncovered}


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
    assert why["inner.shifted.weight"].startswith(
        "`inner.norm` normalizes it only together with a constant or the input, added on the way: |"
    )
    assert 0.0 < number(why["inner.shifted.weight"]) < 1.0
    assert "`inner.eval_norm`, is in eval mode" in why["inner.before_eval.weight"]
    assert "because `inner.batch_norm` removes its shift or scale" in why["inner.batch.bias"]
    assert "only locally invariant" in why["inner.clipped.weight"]
    assert why["inner.head.weight"].startswith("it feeds no norm layer: |⟨w,g⟩| / (‖w‖")
    assert why["inner.head.bias"].endswith("; frozen, so it does not move")
    assert why["inner.unused.weight"].startswith("no gradient in any of 3 probes: dead or unused")
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

    assert (
        "`norm` normalizes it only after a curved function (tanh)"
        in reasons(Parent(), vectors())["fc.weight"]
    )


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


class Branches(nn.Module):
    """A branch without a norm, which runs before or after the one with a norm."""

    def __init__(self, first: str) -> None:
        super().__init__()
        self.first = first
        self.a = nn.Linear(5, 4)
        self.b, self.n, self.o = nn.Linear(5, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.first == "a":
            return self.a(x), self.o(self.n(self.b(x)))
        normed = self.o(self.n(self.b(x)))
        return self.a(x), normed


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_parallel_branches_the_norm_follows_in_one_only(first: str) -> None:
    why = reasons(Branches(first), vectors())
    for name in ("a.weight", "a.bias", "o.weight", "n.weight"):
        assert why[name].startswith("it feeds no norm layer: |⟨w,g⟩|"), (name, why[name])
    assert "b.weight" not in why


def test_of_parallel_experts_each_knows_its_own_norm() -> None:
    """Every expert ends in a projection, after which the norms of later experts run."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(5, 3)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 4))
                for _ in range(3)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.zeros(len(x), 4, dtype=x.dtype)
            weights = self.gate(x).softmax(-1)
            for n, expert in enumerate(self.experts):
                chosen = torch.arange(len(x)) % 3 != n
                y[chosen] += expert(x[chosen]) * weights[chosen, n : n + 1]
            return y

    found = {u.parameter: u for u in inspect_model(Experts(), vectors(batch=24)).uncovered}
    for n in range(3):
        curved = found[f"experts.{n}.0.weight"]
        assert curved.cause == "curved"
        assert curved.reason.startswith(
            f"`experts.{n}.2` normalizes it only after a curved function (tanh): |⟨w,g⟩|"
        )
        assert found[f"experts.{n}.3.weight"].cause == "no norm"
    assert found["gate.weight"].cause == "no norm"


class Residual(nn.Module):
    """A stream that only a branch beside it and the norm at its end read."""

    def __init__(self, *, last_norm: bool = True) -> None:
        super().__init__()
        self.stem, self.hold = nn.Linear(5, 6), nn.Linear(6, 6)
        self.n1, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.n2 = nn.LayerNorm(6) if last_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.hold(self.stem(x).tanh())
        return self.n2(x + self.down(F.gelu(self.up(self.n1(x)))))


def test_a_curved_function_is_named_and_a_residual_join_beside_it() -> None:
    found = {u.parameter: u for u in inspect_model(Residual(), vectors()).uncovered}
    assert found["up.weight"].cause == found["n1.weight"].cause == "curved"
    assert found["up.weight"].reason.startswith(
        "`n2` normalizes it only after a curved function (GELU) and in a sum with another branch: |"
    )
    assert "(tanh)" in found["stem.weight"].reason
    assert 0.0 < number(found["up.weight"].reason) < 1.0


def test_a_way_past_every_norm_is_told() -> None:
    found = {u.parameter: u for u in inspect_model(Residual(last_norm=False), vectors()).uncovered}
    assert found["down.weight"].cause == "no norm"
    assert found["hold.weight"].cause == "mixed"
    why = found["hold.weight"].reason
    assert why.startswith(
        "`n1` normalizes it only together with `hold.bias`, added on the way, and it also reaches "
        "the outputs past every norm: |"
    )


def test_a_residual_join_is_told_from_a_shift() -> None:
    """The other branch is curved, so that no two of them scale together."""

    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 6, bias=False), nn.Linear(5, 6, bias=False)
            self.c, self.gain = nn.Linear(6, 6, bias=False), nn.Parameter(torch.ones(6))
            self.n, self.m = nn.LayerNorm(6), nn.LayerNorm(6)
            self.place = nn.Parameter(torch.ones(6), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            joined = self.n(self.a(x) + self.b(x).tanh())
            return self.m(self.c(joined.tanh()) + self.place.exp())

    found = {u.parameter: u for u in inspect_model(Join(), vectors()).uncovered}
    assert found["a.weight"].cause == "residual"
    assert found["a.weight"].reason.startswith(
        "`n` normalizes it only in a sum with another branch (a residual joins before the norm): |"
    )
    assert found["b.weight"].cause == "curved"
    assert found["c.weight"].cause == "residual"  # a function of a parameter is no bare shift
    assert found["place"].cause == "curved"
    assert found["place"].reason.endswith("; frozen, so it does not move")


def test_what_is_added_is_named() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n = nn.Linear(5, 6, bias=False), nn.LayerNorm(6)
            self.place = nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.n(self.a(x) + self.place) + self.place.square()

    found = {u.parameter: u for u in inspect_model(Placed(), vectors()).uncovered}
    assert found["a.weight"].cause == "mixed"
    assert "`n` normalizes it only together with `place`, added on" in found["a.weight"].reason


class Attention(nn.Module):
    """With or without a norm after it; a bias of the keys shifts all scores of a query alike."""

    def __init__(self, *, norm: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        return self.norm(x + mixed)


@pytest.mark.parametrize("norm", [False, True])
def test_a_key_bias_is_taken_out_by_the_softmax_and_not_by_the_norm(norm: bool) -> None:
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    found = {u.parameter: u for u in inspect_model(Attention(norm=norm), x).uncovered}
    assert found["k.bias"].cause == "shift"
    assert "because a softmax removes its shift or scale" in found["k.bias"].reason
    assert re.search(r"\(‖g‖ is \d+e-\d+ of the largest\)", found["k.bias"].reason)
    assert found["q.weight"].cause == ("curved" if norm else "no norm")


def test_a_scale_in_front_of_a_norm_is_not_called_a_bias() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.scale, self.n = (
                nn.Linear(5, 6),
                nn.Parameter(torch.ones(2)),
                nn.LayerNorm(6),
            )
            self.turned = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.turned(self.n(self.a(x).tanh() * self.scale.prod()).tanh())

    found = {u.parameter: u for u in inspect_model(Scaled(), vectors()).uncovered}
    assert found["scale"].cause == "shift"
    assert found["scale"].reason.endswith("because `n` removes its shift or scale")


class Rare(nn.Module):
    """A bias behind a gate that opens at some of the probes, by the sign of `key`'s noise."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.a, self.key = nn.Linear(5, 3), nn.Parameter(torch.zeros(()))
        self.rare, self.threshold = nn.Parameter(torch.ones(3)), threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) * (1 + self.rare * (self.key.detach() > self.threshold))


def test_a_gradient_in_one_probe_of_three_is_called_rare_and_no_shift() -> None:
    keys: list[float] = []

    class Listening(Rare):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            keys.append(float(self.key.detach()))
            return super().forward(x)

    inspect_model(Listening(0.0), vectors())
    second, first = sorted(keys[:3])[1:]
    (entry,) = (
        u
        for u in inspect_model(Rare((first + second) / 2), vectors()).uncovered
        if u.parameter == "rare"
    )
    assert entry.cause == "dead"
    assert entry.reason.startswith("a gradient in only 1 of 3 probes: behind a dead ReLU or unused")
    assert re.search(r"‖g‖ at most \de[+-]\d+ of the largest", entry.reason)


def test_a_norm_that_runs_later_is_not_taken_for_one_that_follows() -> None:
    """The head's projection is computed first, the other branch's norms next."""

    class Twisted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late, self.early = nn.Linear(5, 4), nn.Linear(5, 4)
            self.n = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            held = self.early(x).tanh()
            return self.n(self.late(x).tanh()).mean() + held

    why = causes(Twisted(), vectors())
    assert why["early.weight"] == "no norm"
    assert why["late.weight"] == "curved"


def test_what_a_custom_function_hides_is_judged_by_the_order_of_execution() -> None:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                ctx.leaf = x.detach().requires_grad_()
                ctx.out = F.layer_norm(ctx.leaf.tanh(), (6,))
            return ctx.out.detach()

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return torch.autograd.grad(ctx.out, ctx.leaf, gradients, retain_graph=True)[0]

    class Net(nn.Module):
        def __init__(self, no_grad: bool) -> None:
            super().__init__()
            self.a, self.head, self.no_grad = nn.Linear(5, 6), nn.Linear(6, 2), no_grad

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.no_grad:
                with torch.no_grad():
                    F.layer_norm(x, (5,))
            return self.head(self.a(x) if self.no_grad else Hidden.apply(self.a(x)))

    assert causes(Net(no_grad=True), vectors())["a.weight"] == "no norm"
    why = reasons(Net(no_grad=False), vectors())
    assert why["head.weight"].startswith("it feeds no norm layer")
    assert why["a.weight"].startswith("`a layer_norm without weight` runs after it, and the autogr")


def test_hooks_and_parametrizations_do_not_break_the_flow() -> None:
    model = nn.Sequential(
        nn.Linear(5, 6), nn.SiLU(), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2)
    )
    nn.utils.parametrizations.weight_norm(model[0])
    model[2].register_full_backward_hook(lambda *_: None)
    why = causes(model, vectors())
    assert why["0.parametrizations.weight.original0"] == "curved"
    assert why["4.weight"] == why["3.weight"] == "no norm"


def test_of_a_deep_stack_the_flow_is_walked_without_recursion() -> None:
    w = torch.ones(2, requires_grad=True)
    y = w
    for _ in range(5000):
        y = y * 1.0
    source = node_of(y)
    site = Site(source, seen=True, own=True)
    flow = flow_through([y], [site], {id(w): "w"})
    assert len(flow.functions) == 5001
    assert flow.follows(0, "w")
    assert paths_to_norms(flow, "w")[0] == {0: Paths()}


def test_the_graph_is_let_go_of() -> None:
    w = torch.ones(2, requires_grad=True)
    observer = NormObserver(names={id(w): "w"})
    y = (w * 2).tanh()
    node = weakref.ref(y)
    with Interception(torch.float32, None, torch.float32, observer):
        F.layer_norm(y[None].expand(1, 2), (2,))
    observer.forward_ended([y])
    del y
    gc.collect()
    assert node() is None
    assert [n.name for n in observer.course.norms_after("w")] == ["a layer_norm without weight"]


def test_a_norm_written_by_hand_counts_where_it_is_told_of() -> None:
    """x / sqrt(mean x² + ε): what it divides takes its way no further."""
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    observer = NormObserver(names={id(a): "a", id(b): "b"})
    square = a.square().mean(-1, keepdim=True) + 1e-6
    observer.hand_written_norm_called(square, eps_share=0.25)
    y = a * torch.rsqrt(square) * b
    observer.forward_ended([y, b.tanh()])
    (norm,) = observer.course.norms_after("a")
    assert (norm.name, norm.own, norm.eps_share) == ("a norm written by hand", True, 0.25)
    assert not list(observer.course.norms_after("b"))
    paths, past_all = observer.course.paths("a")
    assert [n.name for n, _ in paths] == ["a norm written by hand"]
    assert past_all is None
    assert observer.course.paths("b")[1] is not None


@pytest.mark.parametrize("kind", ["rms", "power", "layer", "length", "share"])
def test_a_norm_in_lines_of_its_own_is_found(kind: str) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eps = 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if kind == "rms":
                return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
            if kind == "power":
                return x * torch.pow((x * x).mean(-1, keepdim=True) + self.eps, -0.5)
            if kind == "layer":
                u = x.mean(-1, keepdim=True)
                return (x - u) / torch.sqrt((x - u).pow(2).mean(-1, keepdim=True) + self.eps)
            if kind == "length":
                return F.normalize(x, dim=-1)
            positive = x.abs()
            return positive / positive.sum(-1, keepdim=True)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.head = nn.Linear(5, 6), Own(), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            gated = self.a(x).tanh() * 2.0
            return self.head(self.norm(gated) * gated.detach().mean(-1, keepdim=True))

    found = {u.parameter: u for u in inspect_model(Net(), vectors()).uncovered}
    assert found["head.weight"].cause == "no norm"
    assert found["a.weight"].cause == "curved"
    assert "norm` normalizes it only after a curved function (tanh)" in found["a.weight"].reason


def test_a_gate_by_the_mean_is_no_norm() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(5, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x)
            return x * x.mean(-1, keepdim=True).sigmoid() + x * x.mean(-1, keepdim=True)

    assert causes(Gated(), vectors())["a.weight"] == "no norm"


def test_in_float32_a_failed_candidate_may_be_lost_to_rounding() -> None:
    torch.manual_seed(0)
    found = inspect_model(Mixed(), vectors(), dtype=torch.float32).uncovered
    (why,) = (u.reason for u in found if u.parameter == "inner.clipped.weight")
    assert "is something clipped, or lost to rounding? try float64" in why


def test_every_reason_carries_a_number() -> None:
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    models = [(Mixed(), vectors()), (Residual(), vectors()), (Attention(norm=True), x)]
    for model, inputs in models:
        for parameter, reason in reasons(model, inputs).items():
            assert re.search(r"= [\d.]+|\d+e-\d+ of the largest|of \d probes", reason), parameter


def test_every_cause_has_a_rule_and_a_meaning() -> None:
    assert list(RULES) == list(Cause) == list(CAUSES)
    assert all(cause.meaning.endswith(".") for cause in Cause)
    assert Cause.DEAD == "dead"


def test_the_closest_has_the_least_in_its_way_and_then_the_smallest_defect() -> None:
    def entry(name: str, cause: Cause, kind: Why, defect: float) -> Uncovered:
        parts = (
            Reason(kind, {"norm": "n", "extent": "only", "curves": "GELU"}),
            Reason(Why.FROZEN),
        )
        return Uncovered(name, cause, (parts[0], Reason(Why.DEFECT, {"defect": defect}), parts[1]))

    chance = entry("far", Cause.NO_NORM, Why.NO_NORM, 1e-6)
    curved = entry("curved", Cause.CURVED, Why.CURVED, 1e-4)
    joined = entry("joined", Cause.RESIDUAL, Why.RESIDUAL, 0.2)
    nearer = entry("nearer", Cause.RESIDUAL, Why.RESIDUAL, 0.1)
    names = ["far", "curved", "joined", "nearer"]
    everything = [chance, curved, joined, nearer]
    assert closest(everything, names) == (
        "nearer (`n` normalizes it only in a sum with another branch (a residual joins before the "
        "norm): |⟨w,g⟩| / (‖w‖‖g‖) = 0.1)"
    )
    assert closest(everything, names[:3]).startswith("joined (")
    assert closest(everything, names[:2]).startswith("curved (")
    assert closest(everything, names[:1]) == ""
