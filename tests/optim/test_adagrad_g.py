"""AdaGradG: the paper's equations, and SGD's motion to the order that the theorem claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spherical_motion import HyperParameters, InvariantGroup, Slice, theory
from spherical_motion.errors import InvalidArgument, OutOfDomain
from spherical_motion.optim import AdaGradG, AdamG

DIM = 200


class Bowl(nn.Module):
    """u·A·u/2 with u = w/|w|: a function on the sphere in 200 dimensions, float64."""

    def __init__(self, norm: float = 1.0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        start = torch.randn(DIM, generator=rng, dtype=torch.float64)
        self.weight = nn.Parameter(norm * start / start.norm())
        self.curve = torch.linspace(-1.0, 1.0, DIM, dtype=torch.float64)

    def forward(self) -> Tensor:
        u = self.weight / self.weight.norm()
        return 0.5 * (self.curve * u * u).sum()


BOWL = [InvariantGroup("w", "scale", (Slice("weight", 0, 0, DIM),), (), DIM, 0.0)]


def rows(module: str, count: int, numel: int) -> list[InvariantGroup]:
    parts = [Slice(f"{module}.weight", 0, i, i + 1) for i in range(count)]
    return [InvariantGroup(str(s), "scale", (s,), (), numel, 0.0) for s in parts]


def angle(a: Tensor, b: Tensor) -> float:
    a, b = a.detach() / a.detach().norm(), b.detach() / b.detach().norm()
    return 2.0 * math.asin(min(1.0, (a - b).norm().item() / 2.0))


def sgd_of(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay)


def gap_after(steps: int, lr: float, weight_decay: float = 0.01, cosine: bool = False) -> float:
    """Angle between SGD and AdaGradG on the same problem after `steps`."""
    left, right = Bowl(), Bowl()
    sgd = sgd_of(left, lr, weight_decay)
    ours = AdaGradG.from_sgd(right, BOWL, sgd_of(right, lr, weight_decay))
    for model, optimizer in ((left, sgd), (right, ours)):
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.0)
        for _ in range(steps):
            optimizer.zero_grad()
            model().backward()
            optimizer.step()
            if cosine:
                scheduler.step()
    return angle(left.weight, right.weight)


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@pytest.mark.parametrize("cosine", [False, True])
def test_over_a_fixed_stretch_the_paths_part_as_the_cube_of_the_rate(cosine: bool) -> None:
    # A share τ² of v is dropped a step, τ ∝ η², over a number of steps ∝ 1/η.
    steps = [40, 80, 160]
    rates = [16.0 / n for n in steps]
    gaps = [gap_after(n, lr, cosine=cosine) for n, lr in zip(steps, rates, strict=True)]
    assert gaps[0] < 0.05
    assert slope(rates, gaps) == pytest.approx(3.0, abs=0.15)


def test_over_a_few_steps_the_paths_part_as_the_fifth_power() -> None:
    rates = [0.1, 0.05, 0.025]
    gaps = [gap_after(3, lr) for lr in rates]
    assert slope(rates, gaps) == pytest.approx(5.0, abs=0.1)


def test_the_dropped_term_is_the_whole_difference() -> None:
    lr, decay, model, twin = 0.2, 0.05, Bowl(1.3), Bowl(1.3)
    sgd = sgd_of(model, lr, decay)
    eta, beta, v = AdaGradG.sgd_on_sphere(lr, decay, norm=1.3)
    u = twin.weight.detach() / 1.3
    for _ in range(100):
        sgd.zero_grad()
        model().backward()
        sgd.step()
        g = twin.curve * u - (twin.curve * u * u).sum() * u
        moved = u - eta * g / math.sqrt(v)
        v = beta * v + float(g @ g) + float(g @ g) ** 2 / (4.0 * beta * v)
        u = moved / moved.norm()
    assert angle(model.weight, u) < 1e-12
    assert gap_after(100, lr, decay) > 1e-6


@pytest.mark.parametrize("product", [1e-2, 1e-3])
def test_in_equilibrium_the_angles_differ_by_half_of_lr_times_decay(product: float) -> None:
    model = Bowl()
    ours = AdaGradG.from_sgd(model, BOWL, lr=0.1, weight_decay=10.0 * product)
    rng = torch.Generator().manual_seed(3)
    for _ in range(int(4.0 / product)):
        w = model.weight.detach().clone()
        g = torch.randn(DIM, generator=rng, dtype=torch.float64)
        g -= (g @ w) / (w @ w) * w
        model.weight.grad = g / g.norm() / w.norm()
        ours.step()
    hp = HyperParameters("sgd", lr=0.1, weight_decay=10.0 * product)
    ratio = angle(model.weight, w) / theory.equilibrium_angle(hp)
    assert ratio - 1.0 == pytest.approx(product / 2.0, rel=0.1)


def test_a_drop_of_the_rate_needs_the_moment_to_follow() -> None:
    """A rate that only scales steps keeps the memory of large ones, as SGD does not."""
    lr, decay, drop = 0.2, 0.05, 150
    nets = [Bowl() for _ in range(3)]
    sgd = sgd_of(nets[0], lr, decay)
    following = AdaGradG.from_sgd(nets[1], BOWL, sgd_of(nets[1], lr, decay))
    eta, beta, moment = AdaGradG.sgd_on_sphere(lr, decay, norm=1.0)
    scaled = AdaGradG(nets[2], BOWL, lr=eta, beta=beta, moment=moment)
    rng = torch.Generator().manual_seed(1)
    angles = []
    for step in range(300):
        kick = torch.randn(DIM, generator=rng, dtype=torch.float64)
        angles.append([])
        for model, optimizer in zip(nets, (sgd, following, scaled), strict=True):
            if step == drop:
                optimizer.param_groups[0]["lr"] /= 10.0
            before = model.weight.detach().clone()
            optimizer.zero_grad()
            (model() + kick @ (model.weight / model.weight.norm()) / 14.0).backward()
            optimizer.step()
            angles[-1].append(angle(before, model.weight))
    truth, ours, plain = np.array(angles).T
    assert np.abs(ours / truth - 1.0).max() < 0.03
    assert plain[drop] == pytest.approx(ours[drop], rel=0.01)
    assert plain[-1] < 0.9 * truth[-1]


def test_the_papers_figures_and_its_control() -> None:
    """Section D.5 and figure 2: AdaGrad at rate 1e-3 leaves SGD's path, AdaGradG does not."""
    nets = [Bowl() for _ in range(3)]
    sgd = sgd_of(nets[0], 1e-2, 1e-3)
    ours = AdaGradG.from_sgd(nets[1], BOWL, sgd_of(nets[1], 1e-2, 1e-3))
    assert ours.param_groups[0]["beta"] == pytest.approx(0.99996, abs=1e-7)
    assert ours.param_groups[0]["eta"] == pytest.approx(0.71, abs=0.005)
    adagrad = torch.optim.Adam(nets[2].parameters(), lr=1e-3, betas=(0.0, 0.999))
    for _ in range(400):
        for model, optimizer in zip(nets, (sgd, ours, adagrad), strict=True):
            optimizer.zero_grad()
            model().backward()
            optimizer.step()
    assert angle(nets[0].weight, nets[1].weight) < 1e-6
    assert angle(nets[0].weight, nets[2].weight) > 0.1


class Words(nn.Module):
    """One block of attention whose input and whose queries and keys are normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8, bias=False)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.layer_norm(self.embed(x), (8,), eps=1e-30)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (nn.functional.rms_norm(t, (8,), eps=1e-30) for t in (q, k))
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(attended.mean(1))


class Images(nn.Module):
    """Two convolutions with batch norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, eps=1e-30) for _ in range(2))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip((self.one, self.two), self.norms, strict=True):
            x = nn.functional.silu(norm(conv(x)))
        return self.out(x.mean((2, 3)))


WORDS = [
    InvariantGroup("embed", "scale", (Slice("embed.weight", 0, 0, 8),), (), 40, 0.0),
    InvariantGroup("queries", "scale", (Slice("qkv.weight", 0, 0, 8),), (), 64, 0.0),
    InvariantGroup("keys", "scale", (Slice("qkv.weight", 0, 8, 16),), (), 64, 0.0),
]
IMAGES = rows("one", 4, 18) + rows("two", 4, 36)


@pytest.mark.parametrize(
    ("build", "groups", "shape"),
    [(Images, IMAGES, (12, 2, 6, 6)), (Words, WORDS, (12, 6, 5))],
    ids=["convolutions", "attention"],
)
def test_networks_follow_sgd_to_the_same_order(build, groups, shape) -> None:
    def trained(steps: int, lr: float, ours: bool) -> Tensor:
        torch.manual_seed(0)
        model = build().double()
        inputs, target = torch.randn(shape, dtype=torch.float64), torch.arange(12) % 3
        optimizer: torch.optim.Optimizer = sgd_of(model, lr, 0.01)
        if ours:
            optimizer = AdaGradG.from_sgd(model, groups, optimizer)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), target).backward()
            optimizer.step()
        directions = []
        for group in groups:
            (s,) = group.slices
            w = dict(model.named_parameters())[s.parameter].detach().narrow(0, s.start, s.length)
            directions.append((w / w.norm()).flatten())
        return torch.cat(directions)

    steps = [10, 20, 40]
    rates = [4.0 / n for n in steps]
    gaps = [
        (trained(n, lr, ours=True) - trained(n, lr, ours=False)).norm().item()
        for n, lr in zip(steps, rates, strict=True)
    ]
    assert slope(rates, gaps) > 2.6


@pytest.mark.parametrize("options", [{}, {"foreach": False}, {"foreach": True}])
def test_each_group_makes_the_step_in_the_paper(options: dict) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False)).double()
    optimizer = AdaGradG(
        model, rows("0", 3, 18), lr=0.6, beta=0.9, moment=2.0, radius=1.0, **options
    )
    x = [row / row.norm() for row in model[0].weight.detach().clone().flatten(1)]
    v = [2.0] * 3
    for _ in range(4):
        norms = model[0].weight.detach().flatten(1).norm(dim=1)
        unit = torch.randn(3, 18, dtype=torch.float64)
        unit -= (unit * torch.stack(x)).sum(1, keepdim=True) * torch.stack(x)
        model[0].weight.grad = (unit / norms[:, None]).reshape(3, 2, 3, 3)
        optimizer.step()
        for i, g in enumerate(unit):
            moved = x[i] - 0.6 * g / math.sqrt(v[i])
            x[i], v[i] = moved / moved.norm(), 0.9 * v[i] + float(g @ g)
        torch.testing.assert_close(model[0].weight.detach().flatten(1), torch.stack(x))
    found = torch.stack(list(optimizer.second_moments().values()))
    torch.testing.assert_close(found, torch.tensor(v, dtype=torch.float64))


def test_first_moments_are_those_of_the_theorem() -> None:
    model = Bowl(norm=3.0)
    ours = AdaGradG.from_sgd(model, BOWL, lr=0.1, weight_decay=0.2)
    before = AdaGradG.sgd_on_sphere(0.1, 0.2, norm=3.0).moment
    assert before == pytest.approx(3.0**4 / (2.0 * 0.1**2 * 0.98**2))
    model.weight.grad = torch.zeros(DIM, dtype=torch.float64)
    ours.step()
    assert ours.second_moments()["w"].item() == pytest.approx(0.98**4 * before)
    assert ours.radii()["w"].item() == pytest.approx(3.0)


def test_param_groups_of_sgd_keep_their_settings_and_momentum() -> None:
    torch.manual_seed(0)
    model, twin = Images().double(), Images().double()
    twin.load_state_dict(model.state_dict())
    inputs = torch.randn(6, 2, 6, 6, dtype=torch.float64)

    def sgd(net: Images) -> torch.optim.SGD:
        others = [*net.norms.parameters(), *net.out.parameters()]
        return torch.optim.SGD(
            [
                {"params": net.one.parameters(), "lr": 0.01},
                {"params": net.two.parameters(), "lr": 0.02, "weight_decay": 0.3},
                {"params": others, "lr": 0.1, "momentum": 0.9},
            ]
        )

    first, second = sgd(model), sgd(twin)
    ours: torch.optim.Optimizer = first
    for step in range(4):
        if step == 2:
            ours = AdaGradG.from_sgd(model, IMAGES, first)
        for net, optimizer in ((model, ours), (twin, second)):
            optimizer.zero_grad()
            net(inputs).pow(2).sum().backward()
            for parameter in net.parameters():
                parameter.grad = 0.01 * torch.ones_like(parameter)  # pyright: ignore
            optimizer.step()
    for a, b in zip(model.out.parameters(), twin.out.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0.0)
    settings = [(g["rule"], g["lr"]) for g in ours.param_groups if g["params"]]
    assert settings == [("adagradg", 0.01), ("adagradg", 0.02), ("sgd", 0.1)]


@pytest.mark.parametrize("other", [{"rule": "adamw", "lr": 0.01}, {"lr": 0.1, "momentum": 0.9}])
def test_rows_that_belong_to_nobody_are_stepped_by_the_other_rule(other: dict) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    settings = {key: value for key, value in other.items() if key != "rule"}
    kind = torch.optim.AdamW if "rule" in other else torch.optim.SGD
    twin = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    twin.load_state_dict(model.state_dict())
    group = InvariantGroup("mid", "scale", (Slice("0.weight", 0, 2, 4),), (), 8, 0.0)
    ours, theirs = AdaGradG(model, [group], other=other), kind(twin.parameters(), **settings)
    for _ in range(5):
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    free = [0, 1, 4, 5]
    torch.testing.assert_close(model[0].weight[free], twin[0].weight[free])
    assert not torch.equal(model[0].weight[2:4], twin[0].weight[2:4])
    torch.testing.assert_close(model[1].weight, twin[1].weight)


@pytest.mark.parametrize("options", [{}, {"foreach": False}])
def test_single_numbers_do_not_turn(options: dict) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1, groups=3, bias=False))
    optimizer = AdaGradG(model, rows("0", 3, 1), **options)
    start = model[0].weight.detach().clone()
    for _ in range(3):
        model[0].weight.grad = 1e9 * torch.ones_like(model[0].weight)
        optimizer.step()
    torch.testing.assert_close(model[0].weight.detach(), start)


def test_a_group_with_some_gradients_moves_as_one() -> None:
    model = nn.Linear(3, 3)
    parts = (Slice("weight", 0, 0, 3), Slice("bias", 0, 0, 3))
    optimizer = AdaGradG(model, [InvariantGroup("fc", "scale", parts, (), 12, 0.0)])
    bias = model.bias.detach().clone()
    radius = math.hypot(model.weight.norm().item(), bias.norm().item())
    model.weight.grad = torch.randn(3, 3)
    optimizer.step()
    now = math.hypot(model.weight.norm().item(), model.bias.norm().item())
    assert now == pytest.approx(radius, rel=1e-6)
    torch.testing.assert_close(model.bias / model.bias.norm(), bias / bias.norm())


def test_weights_may_be_laid_out_anew_between_steps() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(4, 5, 3, bias=False)).double() for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for i, net in enumerate(nets):
        optimizer = AdaGradG(net, rows("0", 5, 36))
        for step in range(4):
            if step == 2 and i:
                net.to(memory_format=torch.channels_last)  # pyright: ignore
            rng = torch.Generator().manual_seed(step)
            net[0].weight.grad = torch.randn(5, 4, 3, 3, generator=rng, dtype=torch.float64)
            optimizer.step()
    torch.testing.assert_close(nets[0][0].weight, nets[1][0].weight)


def test_what_the_theorem_does_not_cover_is_refused() -> None:
    for settings in ({"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        sgd = torch.optim.SGD((model := Bowl()).parameters(), lr=0.1, **settings)
        with pytest.raises(InvalidArgument, match=r"momentum=0.9; theorem 4 of Roburin"):
            AdaGradG.from_sgd(model, BOWL, sgd)
    with pytest.raises(OutOfDomain, match="lr × weight_decay"):
        AdaGradG.from_sgd(Bowl(), BOWL, lr=1.0, weight_decay=1.5)
    with pytest.raises(InvalidArgument, match=r"must be a torch.optim.SGD, got Adam"):
        AdaGradG.from_sgd(model, BOWL, torch.optim.Adam(model.parameters()))  # pyright: ignore
    with pytest.raises(InvalidArgument, match="one of the two"):
        AdaGradG.from_sgd(model, BOWL)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, r"lr=\.\.\.\) must be finite and > 0, got 0.0"),
        ({"beta": 1.1}, r"beta=\.\.\.\) must be finite, > 0 and <= 1, got 1.1"),
        ({"moment": 0.0}, "divides by its root"),
        ({"radius": -1.0}, "radius"),
        ({"other": "lion"}, "one of sgd, adamw"),
        ({"other": {"betas": (0.9, 0.9)}}, "sgd has no setting betas"),
        ({"other": {"lr": -1.0}}, r"lr=\.\.\.\) must be finite and >= 0, got -1"),
        ({"other": {"nesterov": True}}, "nesterov needs a momentum"),
        ({"foreach": True, "fused": True}, "cannot both be True"),
        ({"lr": math.inf}, r"lr=.*must be finite and > 0, got inf"),
        ({"lr": "0.1"}, r"lr=.*must be finite and > 0, got '0.1'"),
        ({"lr": None}, r"lr=.*must be finite and > 0, got None"),
        ({"beta": "1"}, r"beta=.*must be finite, > 0 and <= 1, got '1'"),
        ({"other": None}, r"other=.*name of a rule"),
        ({"other": 3}, r"other=.*name of a rule"),
        ({"other": {"rule": ["sgd"]}}, "one of sgd, adamw"),
        ({"other": {"rule": "adamw", "betas": 0.9}}, r"other=.*betas must be two numbers"),
        ({"other": {"lr": math.nan}}, r"other=.*lr=.*must be finite and >= 0, got nan"),
        ({"max_defect": "small"}, r"max_defect=.*number >= 0 or None"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        AdaGradG(Bowl(), BOWL, **settings)


def test_weights_and_gradients_it_has_no_step_for_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"bfloat16, whose spacing"):
        AdaGradG(Bowl().to(torch.bfloat16), BOWL)
    model = Bowl()
    model.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(InvalidArgument, match="must be real"):
        AdaGradG(model, BOWL)
    table = nn.Embedding(4, 3, sparse=True)
    group = InvariantGroup("t", "scale", (Slice("weight", 0, 0, 4),), (), 12, 0.0)
    optimizer = AdaGradG(table, [group])
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InvalidArgument, match="sparse=False"):
        optimizer.step()
    with pytest.raises(InvalidArgument, match="when the optimizer is made"):
        optimizer.add_param_group({"params": [], "groups": [group]})


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"lr": 0.1, "weight_decay": -1.0}])
def test_sgds_settings_are_checked_too(settings: dict) -> None:
    with pytest.raises(
        InvalidArgument, match=r"from_sgd\((lr|weight_decay)=...\) must be finite and >= 0"
    ):
        AdaGradG.from_sgd(Bowl(), BOWL, **settings)


def test_checkpoints_of_other_groups_and_optimizers_are_refused() -> None:
    def made(names: str, **settings) -> AdaGradG:
        net = nn.Linear(3, len(names), bias=False)
        rows = [Slice("weight", 0, r, r + 1) for r in range(len(names))]
        pairs = zip(names, rows, strict=True)
        groups = [InvariantGroup(name, "scale", (row,), (), 3, 0.0) for name, row in pairs]
        make = AdaGradG.from_sgd if settings else AdaGradG
        optimizer = make(net, groups, **settings)
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        return optimizer

    optimizer = made("ab")
    kept = {name: radius.clone() for name, radius in optimizer.radii().items()}
    model = nn.Linear(3, 2, bias=False)
    group = InvariantGroup("a", "scale", (Slice("weight", 0, 0, 2),), (), 6, 0.0)
    without_names = {k: v for k, v in made("abc").state_dict().items() if k != "group_names"}
    for state, message in (
        (made("ba").state_dict(), r"expected the state of 2 groups \['a', 'b'\].*\['b', 'a'\]"),
        (without_names, "'group_moment' must hold one number for each of 2 groups"),
        (made("ab", lr=0.1).state_dict(), r"rules.*got \['adagradg \(from sgd\)', 'sgd'\]"),
        (AdamG(model, [group]).state_dict(), r"rules \['adagradg', 'sgd'\], got \['adamg'"),
        (torch.optim.SGD(model.parameters(), lr=0.1).state_dict(), r"rules.*got \['None'\]"),
        ({}, "'state', 'param_groups' is missing"),
    ):
        with pytest.raises(InvalidArgument, match=f"AdaGradG.load_state_dict: .*{message}"):
            optimizer.load_state_dict(state)
    assert all(torch.equal(radius, kept[name]) for name, radius in optimizer.radii().items())
    other = made("ab")
    optimizer.load_state_dict(other.state_dict())
    assert optimizer.radii() == other.radii()
    bare = {k: v for k, v in other.state_dict().items() if k != "group_names"}
    optimizer.load_state_dict(bare)
