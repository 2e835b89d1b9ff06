"""wp and ws: the kernel, the table of optimizers and torch's own steps agree.

Three oracles that know nothing of each other: the definitions in float64 (`measure.reference`),
steps of torch from one state with x and with -x, and the exact balance law.
"""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from preconditioned import (
    CASES,
    SETTINGS,
    Step,
    kind_of,
    made,
    measured,
    read,
    read_earlier,
    steps_along,
    steps_of,
)

from spherical_motion.errors import InvalidArgument
from spherical_motion.measure import CpuGram, Preconditioner, reference
from spherical_motion.measure.layout import StridedLayout
from spherical_motion.measure.preconditioner_table import PreconditionerTable

WITH_AVERAGE = [n for n in SETTINGS if kind_of(n) not in ("RMSprop", "Adagrad")]

EPS = {torch.float32: 2e-7, torch.float64: 1e-14}


def weights(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """A vector, a matrix with long rows, and convolutions in three layouts."""
    rng = torch.Generator().manual_seed(3)
    conv = torch.randn(6, 5, 3, 3, generator=rng, dtype=dtype)
    return [
        torch.randn(7, generator=rng, dtype=dtype),
        torch.randn(2, 1_111, generator=rng, dtype=dtype),
        conv.clone(),
        conv.clone().to(memory_format=torch.channels_last),
        conv.clone().transpose(0, 1).contiguous().transpose(0, 1),
    ]


def random(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size_of(step: Step, kind: str) -> np.ndarray:
    """|w||P(|g| + λ|w|)| of every row: what rounding errors are relative to."""
    sizes = []
    for w, g, state in zip(step.before, step.grads, step.states, strict=True):
        decay = step.group["weight_decay"]
        x = g.double().abs() + decay * w.double().abs()
        px = reference.metric(kind, step.group, state) * x
        rows, pulls = (t.double().reshape(len(w), -1).norm(dim=1) for t in (w, px))
        sizes.append((rows * pulls).numpy())
    return np.concatenate(sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "implementation"), CASES)
def test_wp_is_that_of_the_definition(name: str, implementation: str, dtype: torch.dtype) -> None:
    optimizer, kind = made(name, weights(dtype), implementation), kind_of(name)
    steps = steps_of(optimizer, 12, random())
    for step in [*steps[:3], *steps[5:9], steps[-1]]:  # RAdam rectifies from the seventh on
        found = measured(optimizer, step)
        of_tensors = zip(step.before, step.after, step.grads, step.states, strict=True)
        expected = []
        for before, after, grad, state in of_tensors:
            six = reference.gram(before, after, grad).to_array()
            wp = reference.pull(kind, step.group, state, before, grad)
            expected.append(np.column_stack([six, wp]))
        expected = np.concatenate(expected)
        assert np.all(np.abs(found[:, :6] - expected[:, :6]) <= 1e-12 * (1 + expected[:, [0]]))
        error = np.abs(found[:, 6] - expected[:, 6])
        assert np.all(error <= EPS[dtype] * size_of(step, kind))


def stepped(optimizer: torch.optim.Optimizer, grads: list[torch.Tensor]) -> list[torch.Tensor]:
    """The step from here along other gradients of the minimized loss; nothing stays changed."""
    twin = copy.deepcopy(optimizer)
    sign = -1.0 if twin.param_groups[0]["maximize"] else 1.0
    parameters = twin.param_groups[0]["params"]
    before = [p.detach().clone() for p in parameters]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = sign * g
    twin.step()
    return [p.detach() - b for p, b in zip(parameters, before, strict=True)]


def weight_of_fresh(name: str, group: dict, t: int) -> float:
    """How much of Px this very step takes."""
    kind = kind_of(name)
    if kind in ("RMSprop", "Adagrad"):
        return 1.0
    beta = group["betas"][0]
    if kind != "NAdam":
        return 1 - beta
    mu = [beta * (1 - 0.5 * 0.96 ** (i * group["momentum_decay"])) for i in range(1, t + 2)]
    last, coming = 1 - math.prod(mu[:-1]), 1 - math.prod(mu)
    return (1 - mu[-2]) * coming / last + mu[-1] * (1 - beta)


@pytest.mark.parametrize("name", [name for name in SETTINGS if "centered" not in SETTINGS[name]])
def test_px_is_what_a_step_of_torch_changes_by_when_x_changes_its_sign(name: str) -> None:
    """v does not see the sign of x, so that d(x) - d(-x) = -2ηθPx in every entry.

    A formula that is misread in the reference and in the table alike does not pass.
    """
    lr = 1e-3
    optimizer = made(name, weights(), lr=lr)
    group = optimizer.param_groups[0]
    decay = 0.0 if group.get("decoupled_weight_decay") else group["weight_decay"]
    rng = random()
    for t in range(1, 10):
        ws = [p.detach().clone() for p in group["params"]]
        grads = [torch.randn(w.shape, generator=rng, dtype=w.dtype) for w in ws]
        turned = [-g - 2 * decay * w for g, w in zip(grads, ws, strict=True)]
        one, other = stepped(optimizer, grads), stepped(optimizer, turned)
        theta = weight_of_fresh(name, group, t)
        expected = [(b - a) / (2 * lr * theta) for a, b in zip(one, other, strict=True)]
        sign = -1.0 if group["maximize"] else 1.0
        (step,) = steps_along(optimizer, [sign * g for g in grads])
        found = measured(optimizer, step)[:, 6]
        wp = [(w * px).reshape(len(w), -1).sum(1) for w, px in zip(ws, expected, strict=True)]
        # NAdam holds the product of its μ in float32.
        close = 3e-7 * size_of(step, kind_of(name)) if kind_of(name) == "NAdam" else 1e-9
        assert np.all(np.abs(found - torch.cat(wp).numpy()) <= close), t


@pytest.mark.parametrize("name", ["RMSprop, centered", "RMSprop, all"])
def test_px_of_centered_rmsprop_is_what_its_buffer_takes_in(name: str) -> None:
    optimizer = made(name, weights())
    for step in steps_of(optimizer, 8, random()):
        found = measured(optimizer, step)[:, 6]
        expected = []
        mu = step.group["momentum"]
        for w, after, state, old in zip(
            step.before, step.after, step.states, step.earlier, strict=True
        ):
            if mu:
                px = state["momentum_buffer"] - mu * old.get("momentum_buffer", 0.0)
            else:
                px = (w - after) / step.group["lr"]
            expected.append((w * px).reshape(len(w), -1).sum(1))
        assert np.allclose(found, torch.cat(expected).numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in SETTINGS if kind_of(n) != "NAdam"])
@pytest.mark.parametrize("lr", [0.1, 0.7])
def test_the_balance_law_is_exact_from_the_first_step(name: str, lr: float) -> None:
    """(G - D)/η + 2δR = α(E_before - 2S) - 2θX for every row, E = (G + D)/η + δ(R' + R - D).

    With R = ww, D = dd, X = wp, S = ws and R' = R + G; rates may be large and change.
    """
    optimizer = made(name, weights())
    group = optimizer.param_groups[0]
    decoupled = group.get("decoupled_weight_decay", False)
    delta = group["weight_decay"] if decoupled else 0.0
    if kind_of(name) in ("RMSprop", "Adagrad"):
        # What averages Px, and not x, is a heavy ball without an S.
        alpha, theta = group.get("momentum", 0.0), 1.0
    else:
        alpha, theta = group["betas"][0], 1 - group["betas"][0]
    e = 0.0
    rng = random()
    for t in range(9):
        group["lr"] = lr * (1 + t % 3)
        (step,) = steps_of(optimizer, 1, rng)
        ww, wd, dd, *_, wp, ws = measured(optimizer, step, products=8).T
        ws = ws if name in WITH_AVERAGE else 0.0
        growth, eta = 2 * wd + dd, group["lr"]
        left = (growth - dd) / eta + 2 * delta * ww
        right = alpha * (e - 2 * ws) - 2 * theta * wp
        assert np.allclose(left, right, rtol=1e-9, atol=1e-10 * ww.max() / eta), t
        e = (growth + dd) / eta + delta * (2 * ww + growth - dd)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SETTINGS)
def test_ws_is_that_of_the_definition(name: str, dtype: torch.dtype) -> None:
    optimizer, kind = made(name, weights(dtype)), kind_of(name)
    first, *steps = steps_of(optimizer, 8, random())
    found = measured(optimizer, first, products=8)
    if name not in WITH_AVERAGE:
        assert np.isnan(found[:, 7]).all()
        return
    assert not found[:, 7].any()  # the average is zero before the first step
    for step in steps:
        found = measured(optimizer, step, products=8)
        assert np.array_equal(found[:, :7], measured(optimizer, step), equal_nan=True)
        expected, sizes = [], []
        of = zip(step.before, step.states, step.earlier, strict=True)
        for w, state, old in of:
            expected.append(reference.change(kind, step.group, state, old, w))
            pb = reference.metric(kind, step.group, state) * old["exp_avg"].double()
            sizes.append((w.double() * pb).abs().reshape(len(w), -1).sum(1))
        expected, size = torch.cat(expected).numpy(), torch.cat(sizes).numpy()
        assert np.all(np.abs(found[:, 7] - expected) <= 1e-12 * size)


def one_step(w: torch.Tensor, g: torch.Tensor) -> tuple[list[torch.Tensor], ...]:
    return [w - 0.1 * g], [w], [g]


def sums(
    step: tuple[list[torch.Tensor], ...], *given: Preconditioner | None, products: int = 7
) -> np.ndarray:
    """The products of each whole tensor."""
    out = np.full((len(step[0]), products), 7.0)
    slices = [(t, 0, 0, len(w)) for t, w in enumerate(step[1])]
    with CpuGram(step[1], slices, threads=1, products=products) as measure:
        measure(*step, out, list(given) or None)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_entries_that_never_had_a_gradient_add_nothing(dtype: torch.dtype) -> None:
    """v = 0 and x = 0: 0/eps is 0, also for an eps by which P itself overflows."""
    w = torch.ones(1000, dtype=dtype)
    g, v = torch.zeros_like(w), torch.zeros_like(w)
    g[7], v[7] = 3.0, 4.0
    tiny = 1e-45 if dtype == torch.float32 else 5e-324
    for eps in (1e-8, 1e-30, tiny):
        p = Preconditioner(v, root=1.0, scale=10.0, eps=eps)
        assert sums(one_step(w, g), p)[0, 6] == pytest.approx(15.0, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_denormal_numbers_count(dtype: torch.dtype) -> None:
    small = torch.finfo(dtype).smallest_normal / 256
    w = torch.ones(600, dtype=dtype)
    v = torch.full_like(w, small)
    p = Preconditioner(v, root=1.0, eps=0.0)
    found = sums(one_step(w, torch.full_like(w, math.sqrt(small))), p)[0, 6]
    assert found == pytest.approx(600.0, rel=1e-6)


def test_what_is_not_finite_passes_through_and_stays_in_its_slice() -> None:
    w, g, v = torch.ones(3, 20_000), torch.ones(3, 20_000), torch.ones(3, 20_000)
    v[0, 5] = torch.nan
    g[1, 6] = torch.inf
    out = np.empty((3, 7))
    step = one_step(w, g)
    with CpuGram([w], [(0, 0, i, i + 1) for i in range(3)], products=7) as measure:
        measure(*step, out, [Preconditioner(v, root=1.0, eps=1.0)])
    assert np.isnan(out[0, 6])
    assert out[1, 6] == np.inf
    assert out[2, 6] == 10_000.0
    v[2, 7] = torch.inf  # an infinite v stops its entry, as in the optimizer
    assert sums((step[0], [w], [g]), Preconditioner(v[:], root=1.0, eps=1.0)).shape == (1, 7)
    assert sums(one_step(w[2], g[2]), Preconditioner(v[2], root=1.0, eps=1.0))[0, 6] == 9_999.5


def test_tensors_without_a_preconditioner_are_measured_as_ever() -> None:
    """Bit for bit, whatever stands beside them; their seventh product is NaN."""
    rng = random()
    before = [torch.randn(5, 400, generator=rng, dtype=d) for d in (torch.float32,) * 3]
    before.append(before[0].double())
    grads = [torch.randn(b.shape, generator=rng).to(b.dtype) for b in before]
    step = ([b - 0.1 * g for b, g in zip(before, grads, strict=True)], before, grads)
    p = Preconditioner(torch.ones(5, 400), root=1.0)
    six, mixed = sums(step, products=6), sums(step, None, p, None, None)
    assert np.array_equal(mixed[[0, 2, 3], :6], six[[0, 2, 3]])
    assert np.allclose(mixed[1, :6], six[1], rtol=1e-14)
    assert np.isnan(mixed[[0, 2, 3], 6]).all()
    assert mixed[1, 6] == pytest.approx(mixed[1, 3], rel=1e-6)
    assert np.array_equal(sums(step)[:, :6], six)
    assert np.isnan(sums(step)[:, 6]).all()


def test_a_flat_preconditioner_scales_what_the_six_say() -> None:
    w, g = torch.randn(4, 50, generator=random()), torch.randn(4, 50, generator=random(6))
    found = sums(one_step(w, g), Preconditioner.flat(3.0, decay=0.5))[0]
    assert found[6] == pytest.approx(3 * (found[3] + 0.5 * found[0]), rel=1e-15)


def test_a_missing_gradient_spoils_wp() -> None:
    w, g = torch.ones(3), torch.ones(3)
    after, before, _ = one_step(w, g)
    found = sums((after, before, [None]), Preconditioner(g, root=1.0), products=8)
    assert np.isfinite(found[0, :3]).all()
    assert np.isnan(found[0, 3:]).all()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_sparse_gradients_of_adagrad() -> None:
    w = torch.nn.Parameter(weights()[1].T.contiguous())
    optimizer = torch.optim.Adagrad([w], lr=0.1)
    for _ in range(2):
        g = torch.zeros_like(w)
        g[3:9] = 0.5
        w.grad = g.to_sparse()
        before = w.detach().clone()
        optimizer.step()
    state = dict(optimizer.state[w])
    group = optimizer.param_groups[0]
    step = Step([before], [w.detach().clone()], [w.grad], group, [state], [])
    found = measured(optimizer, step)
    expected = reference.pull("Adagrad", group, state, before, g)
    assert np.allclose(found[:, 6], expected.numpy(), rtol=1e-12, atol=0)
    assert found[:, 6].any()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("products", [7, 8])
def test_the_number_of_threads_does_not_change_a_bit(threads: int, products: int) -> None:
    rng = random()
    ws = [torch.randn(3, 300_000, generator=rng), torch.randn(40, 90, 3, 3, generator=rng)]
    optimizer = made("Adam with L2", ws)
    step = steps_of(optimizer, 2, rng)[-1]
    alone = measured(optimizer, step, products)
    assert np.isfinite(alone).all()
    assert np.array_equal(measured(optimizer, step, products, threads), alone)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        (torch.ones(2, 4), r"preconditioners\[0\] must be torch.float32 of shape \(2, 3\)"),
        (torch.ones(2, 3).double(), r"preconditioners\[0\] must be"),
    ],
)
def test_states_that_do_not_fit_are_refused(state: torch.Tensor, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        sums(one_step(torch.ones(2, 3), torch.ones(2, 3)), Preconditioner(state, root=1.0))


def test_lists_and_products_are_checked() -> None:
    step = one_step(torch.ones(2, 3), torch.ones(2, 3))
    with pytest.raises(InvalidArgument, match="preconditioners must hold one entry for each"):
        sums(step, None, None)
    with pytest.raises(InvalidArgument, match=r"products=.* must be an int >= 6 and <= 8, got 9"):
        CpuGram(step[0], [], products=9)
    with pytest.raises(InvalidArgument, match=r"float64 array of shape \(1, 7\)"):
        CpuGram(step[0], [(0, 0, 0, 2)], products=7)(*step, np.empty((1, 6)))


def test_values_are_what_the_kernel_uses() -> None:
    """P of every entry, for all kinds of v."""
    for name, lr in itertools.product(SETTINGS, (0.1,)):
        optimizer = made(name, weights()[:1], lr=lr)
        step = steps_of(optimizer, 7, random())[-1]
        (p,) = read(optimizer, step)
        w, g = step.before[0], step.grads[0]
        px = p.values() * (g + p.decay * w)
        assert np.allclose(measured(optimizer, step)[:, 6], (w * px).numpy(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("products", [7, 8])
def test_a_table_gives_what_a_sequence_gives(products: int) -> None:
    """Bit for bit, step after step in one table, also where there is no preconditioner."""
    ws = weights(torch.float32)
    optimizer = made("RAdam", ws)  # flat at first
    table = PreconditionerTable([StridedLayout.of(w) for w in ws])
    slices = [(t, 0, i, i + 1) for t, w in enumerate(ws) for i in range(len(w))]
    with CpuGram(ws, slices, threads=1, products=products) as measure:
        for step in steps_of(optimizer, 9, random()):
            found, earlier = read(optimizer, step), read_earlier(optimizer, step)
            given = [None if i == 1 else p for i, p in enumerate(found)]
            for i, p in enumerate(given):
                table.put(i, p)
            outs = [np.empty((len(slices), products)) for _ in range(2)]
            for out, now in zip(outs, (given, table), strict=True):
                measure(step.after, step.before, step.grads, out, now, earlier)
            assert np.array_equal(*outs, equal_nan=True)
            assert [p is None for p in table] == [p is None for p in given]
    assert np.isfinite(outs[0][:7]).all()


def test_a_table_for_other_tensors_is_refused_and_an_empty_one_gives_the_six() -> None:
    step = one_step(torch.ones(2, 3), torch.ones(2, 3))
    with CpuGram(step[1], [(0, 0, 0, 2)], threads=1, products=7) as measure:
        for other in (torch.ones(3, 2), torch.ones(2, 3).double(), torch.ones(3, 2).T):
            table = PreconditionerTable([StridedLayout.of(other)])
            table.put(0, Preconditioner.flat(1.0))
            with pytest.raises(InvalidArgument, match="made for tensors of another type"):
                measure(*step, np.empty((1, 7)), table)
        out = np.empty((1, 7))
        measure(*step, out, PreconditionerTable([StridedLayout.of(step[1][0])]))
    assert np.array_equal(out[0, :6], sums(step, products=6)[0])
    assert np.isnan(out[0, 6])


def test_a_v_that_is_not_there_is_not_read() -> None:
    """A rule from outside may forget it; the weights stand in."""
    w = torch.full((3,), 4.0)
    found = sums(one_step(w, torch.ones(3)), Preconditioner(None, root=1.0))
    assert found[0, 6] == pytest.approx(3 * 4 / 2)
