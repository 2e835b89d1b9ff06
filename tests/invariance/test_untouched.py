"""A model comes back as it went in, bit by bit, also when it fails halfway."""

from __future__ import annotations

import collections
import copy
import dataclasses
import gc
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from spherical_motion.errors import ModelError, StateNotRestored
from spherical_motion.invariance import find_groups, inspect_model
from spherical_motion.invariance.running import mutable_state, prober
from spherical_motion.invariance.running.mutable_state import Remembered
from spherical_motion.invariance.running.precision import precision_of
from spherical_motion.invariance.running.prober import Prober
from spherical_motion.invariance.running.tensor_state import remembered_tensor


class Busy(nn.Module):
    """Does everything in its forward that a well-behaved model would not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Conv2d(4, 4, 1, bias=False).requires_grad_(False)
        self.still = nn.BatchNorm2d(4).eval()
        self.steps = 0
        self.activations: list[torch.Tensor] = []
        self.average = torch.zeros(4)
        self.stream = torch.Generator().manual_seed(3)
        self.fail_at: int | None = None
        self.conv.register_forward_hook(lambda *_: None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        x = x.add_(0.1 * random.random() + 0.1 * np.random.rand())  # noqa: NPY002
        x = x + 0.1 * torch.randn(x.shape) + torch.rand(1, generator=self.stream)
        y = self.norm(self.conv(x))
        self.activations.append(y)
        self.average.mul_(0.9).add_(y.detach().mean((0, 2, 3)))
        self.still.train()
        self.norm.eval()
        self.extra = y
        if random.random() < FAILURE["odds"]:
            raise ValueError("no luck")
        return self.still(self.frozen(y.relu()))


class Settings:
    """An object of the user's, with all that may lie in one."""

    def __init__(self) -> None:
        self.n = 0
        self.lock = threading.Lock()
        self.itself = self
        self.deeper = {"rng": [np.random.default_rng(4), random.Random(4), torch.Generator()]}
        self.legacy = np.random.RandomState(4)
        self.counts = np.zeros(3)


@dataclasses.dataclass(slots=True)
class Slotted:
    """An object without a `__dict__`."""

    seen: int
    last: torch.Tensor
    names: set[str] = dataclasses.field(init=False)


class Hoard(nn.Module):
    """Writes to everything it can reach but its own attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.queue = [torch.zeros(8)]
        self.steps = {"train": [0]}
        self.cfg = Settings()
        self.slotted = (Slotted(0, torch.ones(2)),)
        self.lists = collections.defaultdict(list, a=[collections.deque([1], maxlen=2)])
        self.order = collections.OrderedDict(a={1}, b={2})
        self.tally = [collections.Counter(a=1)]
        self.still = {"tensor": [torch.tensor([float("nan"), -0.0])]}
        self.odd = [
            torch.ones(1).expand(4),
            torch.zeros(2, 3, dtype=torch.complex64).t(),
            torch.zeros((), dtype=torch.bool),
            torch.zeros(2, dtype=torch.float16),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        self.queue[0].mul_(0.9).add_(y.mean())
        self.steps["train"][0] += 1
        self.cfg.n += 1
        self.cfg.new = y
        generator, plain, torchs = self.cfg.deeper["rng"]
        self.cfg.counts += generator.random() + plain.random() + self.cfg.legacy.normal()
        self.cfg.counts += torch.rand(1, generator=torchs).item()
        (slotted,) = self.slotted
        slotted.seen += 1
        slotted.last.data = torch.zeros(3)
        slotted.names = {"x"}
        self.lists["a"][0].append(len(self.lists["b"]))
        self.order["a"].add(3)
        self.order.move_to_end("a")
        self.tally[0]["a"] += 1
        base = self.odd[0].as_strided((1,), (1,))
        for tensor in (base, self.odd[1], self.odd[3]):
            tensor.add_(1)
        self.odd[2].logical_not_()
        if random.random() < FAILURE["odds"]:
            raise ValueError("no luck")
        return y


def hoarded(model: Hoard) -> dict[str, Any]:
    """All that `Hoard` writes to, values and the identities of what holds them."""
    generator, plain, torchs = model.cfg.deeper["rng"]
    (slotted,) = model.slotted
    queue = model.queue[0]
    return {
        "queue": (queue.clone(), id(queue), queue.requires_grad, queue.grad_fn),
        "steps": (copy.deepcopy(model.steps), id(model.steps["train"])),
        "cfg": (model.cfg.n, sorted(vars(model.cfg)), model.cfg.counts.copy()),
        "generators": (
            repr(generator.bit_generator.state),
            plain.getstate(),
            torchs.get_state(),
            repr(model.cfg.legacy.get_state()),
        ),
        "slots": (slotted.seen, slotted.last.clone(), hasattr(slotted, "names")),
        "lists": repr(model.lists),
        "order": repr(model.order),
        "tally": repr(model.tally),
        "odd": [torch.view_as_real(t).clone() if t.is_complex() else t.clone() for t in model.odd],
    }


FAILURE = {"odds": 0.0}


def fingerprint(model: Busy, inputs: torch.Tensor) -> dict[str, Any]:
    """Everything that could have changed, in a form that can be compared."""
    return {
        "tensors": {
            name: (t.detach().clone(), t.requires_grad, id(t), t._version)
            for name, t in (*model.named_parameters(), *model.named_buffers())
        },
        "grads": {
            name: None if p.grad is None else (p.grad.clone(), id(p.grad))
            for name, p in model.named_parameters()
        },
        "training": {name: m.training for name, m in model.named_modules()},
        "hooks": {name: list(m._forward_hooks.items()) for name, m in model.named_modules()},
        "eps": {name: getattr(m, "eps", None) for name, m in model.named_modules()},
        "attributes": {name: list(vars(m)) for name, m in model.named_modules()},
        "own": (model.steps, list(model.activations), model.average.clone(), id(model.average)),
        "stream": model.stream.get_state(),
        "inputs": (inputs.clone(), inputs._version, inputs.requires_grad),
        "random": random.getstate(),
        "numpy": list(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state(),
        "globals": (torch.get_default_dtype(), torch.is_grad_enabled()),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.fixture
def busy() -> Busy:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    model = Busy()
    model.conv.weight.grad = torch.randn_like(model.conv.weight)
    return model


def test_everything_is_as_before_after_success(busy: Busy) -> None:
    inputs = torch.randn(5, 2, 6, 6)
    before = fingerprint(busy, inputs)
    assert find_groups(busy, inputs)
    after = fingerprint(busy, inputs)
    assert {key for key in before if not same(before[key], after[key])} == set()


@pytest.fixture
def failing_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make models fail in their forward, once they have been run so many times."""

    def arrange(healthy_runs: int) -> None:
        runs = iter(range(100))
        original = prober.run_at

        def failing(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setitem(FAILURE, "odds", float(next(runs) >= healthy_runs))
            return original(*args, **kwargs)

        monkeypatch.setattr(prober, "run_at", failing)

    return arrange


@pytest.mark.parametrize("healthy_runs", range(7))
def test_everything_is_as_before_after_an_exception_in_any_pass(
    busy: Busy, healthy_runs: int, failing_after: Callable[[int], None]
) -> None:
    inputs = torch.randn(5, 2, 6, 6)
    before = fingerprint(busy, inputs)
    failing_after(healthy_runs)
    with pytest.raises(ModelError, match="no luck") as caught:
        inspect_model(busy, inputs)
    assert isinstance(caught.value.__cause__, ValueError)
    after = fingerprint(busy, inputs)
    assert {key for key in before if not same(before[key], after[key])} == set()


def test_the_fingerprint_notices_a_forward(busy: Busy) -> None:
    inputs = torch.randn(5, 2, 6, 6)
    before = fingerprint(busy, inputs)
    busy(inputs)
    changed = {
        key for key, value in fingerprint(busy, inputs).items() if not same(before[key], value)
    }
    assert changed >= {"tensors", "training", "attributes", "own", "stream", "inputs", "random"}


def changes(before: dict[str, Any], model: Hoard) -> set[str]:
    after = hoarded(model)
    return {key for key in before if not same(before[key], after[key])}


def test_what_lies_in_containers_and_objects_is_as_before() -> None:
    model = Hoard()
    before, untouched = hoarded(model), model.still["tensor"][0]
    assert find_groups(model, torch.randn(8, 4))
    assert changes(before, model) == set()
    assert untouched._version == 0


@pytest.mark.parametrize("healthy_runs", range(7))
def test_what_lies_in_containers_is_as_before_after_an_exception_in_any_pass(
    healthy_runs: int, failing_after: Callable[[int], None]
) -> None:
    model = Hoard()
    before = hoarded(model)
    failing_after(healthy_runs)
    with pytest.raises(ModelError, match="no luck"):
        inspect_model(model, torch.randn(8, 4))
    assert changes(before, model) == set()


def test_the_hoard_notices_a_forward() -> None:
    model = Hoard()
    before = hoarded(model)
    model(torch.randn(8, 4))
    assert changes(before, model) == set(before)


def test_parameters_and_buffers_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    model.again = {"all": [*model.parameters(), *model.buffers()]}
    model.own = [[stray := torch.ones(3)]]
    copied: list[torch.Tensor] = []

    def watched(tensor: torch.Tensor) -> Callable[[], None]:
        copied.append(tensor)
        return remembered_tensor(tensor)

    monkeypatch.setattr(mutable_state, "remembered_tensor", watched)
    Remembered(model)
    assert [id(tensor) for tensor in copied] == [id(stray)]


def test_what_is_large_is_restored_and_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutable_state, "LIMIT", 10)
    model = nn.Identity()
    model.names = {i: f"class {i}" for i in range(1000)}  # text costs nothing
    model.many = [[i] for i in range(11)]
    model.few = [[0]]
    before = Remembered(model)
    model.names[0] = "other"
    model.few[0][0] += 1
    model.many[0][0] += 1
    model.many.append([11])
    before.put_back()
    assert (model.names[0], model.few, len(model.many), model.many[0]) == (
        "class 0",
        [[0]],
        11,
        [1],
    )


def test_nobodys_code_is_run_and_machinery_is_left_alone() -> None:
    class Touchy:
        def __init__(self) -> None:
            object.__setattr__(self, "inner", [0])

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        __setattr__ = __eq__ = __hash__ = __getattribute__  # type: ignore[assignment]

    class Worker(threading.Thread):
        state = 0

    model = nn.Identity()
    model.touchy, model.worker = [Touchy()], [Worker()]
    inner = object.__getattribute__(model.touchy[0], "inner")
    before = Remembered(model)
    inner[0] = model.worker[0].state = 1
    before.put_back()
    assert (inner, model.worker[0].state) == ([0], 1)


def test_what_cannot_be_put_back_is_named_and_stops_nothing() -> None:
    model = nn.Identity()
    model.held = [np.zeros(2), [0]]
    before = Remembered(model)
    model.held[0] += 1
    model.held[1][0] += 1
    model.held[0].flags.writeable = False
    with pytest.warns(StateNotRestored, match="could not be restored after a probe"):
        before.put_back()
    assert model.held[1] == [0]


def test_a_parameter_that_was_never_registered_gets_no_gradient() -> None:
    class Stray(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
            self.strays = [nn.Parameter(torch.ones(6))]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) * self.strays[0]

    model = Stray()
    assert find_groups(model, torch.randn(8, 4))
    assert model.strays[0].grad is None


def test_training_goes_on_bit_identically() -> None:
    def trained(look: bool) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            x = torch.randn(8, 4)
            if look:
                find_groups(net, x)
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in (*net.parameters(), *net.buffers())])

    assert torch.equal(trained(look=True), trained(look=False))


def test_it_works_without_gradients_enabled_and_inside_autocast() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    x = torch.randn(8, 4)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (group,) = find_groups(net, x)
        (single,) = find_groups(net, x, dtype=torch.float32)
    assert (group.name, single.name) == ("0", "0")


def test_a_model_in_half_precision_is_probed_in_double() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).to(torch.bfloat16)
    (group,) = find_groups(net, torch.randn(8, 4, dtype=torch.bfloat16))
    assert len(group.cells) == 6
    assert net[0].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_hides_nothing(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.use_checkpoint = True
            self.inner = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if reentrant and not self.use_checkpoint:
                return self.inner(x)
            y = checkpoint(self.inner, x, use_reentrant=reentrant)
            assert isinstance(y, torch.Tensor)
            return y

    model = Checkpointed()
    (group,) = find_groups(model, torch.randn(8, 4))
    assert (group.name, len(group.cells)) == ("inner.0", 6)
    assert model.use_checkpoint is True


def test_nothing_allocated_stays_referenced() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    seen: list[weakref.ref[torch.Tensor]] = []

    def remember(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        seen.extend((weakref.ref(output), weakref.ref(next(module.parameters()))))

    net[0].register_forward_hook(remember)
    find_groups(net, torch.randn(8, 4))
    gc.collect()
    assert len(seen) > 0
    assert [ref() for ref in seen if ref() is not None] == []


def test_gradients_are_transient() -> None:
    """At the end of a backward at most one gradient has been alive at a time."""
    depth = 12
    net = nn.Sequential(*[nn.Linear(5, 5, bias=False) for _ in range(depth)])
    runner = Prober(net, torch.randn(8, 5), precision_of(torch.float64))
    weights = runner.subject.perturbed(0)
    alive: list[int] = []
    for leaf in weights.values():
        leaf.requires_grad_().register_post_accumulate_grad_hook(
            lambda _: alive.append(sum(w.grad is not None for w in weights.values()))
        )
    runner.backward(weights, seed=0, norm_eps=None)
    assert len(alive) == depth
    assert max(alive) == 1
    assert all(leaf.grad is None for leaf in weights.values())


def test_a_copy_of_the_model_is_not_needed(busy: Busy) -> None:
    busy.extra = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(busy)
    assert find_groups(busy, torch.randn(5, 2, 6, 6))
