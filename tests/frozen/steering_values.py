"""200 steps of every steering tool: weights, state, rates and what the tool says of itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from optim.steered import Lion
from torch.optim import lr_scheduler

import spherical_motion as smd
from frozen.flat import Value, call, flatten
from frozen.networks import Problem, convolutions, linear, snapshot, trained
from spherical_motion import InvariantGroup

__all__ = ["values"]

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.02),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.02, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.05, weight_decay=0.02, momentum=0.9, nesterov=True
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=2e-3, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.5),
    "lion": lambda p: Lion(p, lr=1e-3, weight_decay=1.0),
}

PROBLEMS = {"conv": convolutions, "linear": linear}


def values() -> Iterator[Value]:
    """All keys and values of the room."""
    for name, make in PROBLEMS.items():
        for granularity in ("layer", "filter"):
            problem = make()
            groups = smd.find_groups(problem.model, problem.inputs, granularity)
            told = name, granularity
            if granularity == "layer" or name == "conv":
                yield from _on_sphere(told, make, groups)
                yield from _rotational(told, make, groups)
            if granularity == "layer":
                yield from _rescaled(name, make, groups)
                yield from _scheduled(name, make, groups)
                yield from _started(name, make, groups)
            yield from _members(f"{name}/{granularity}", make, groups)
    yield from _ratios()


def _split(
    problem: Problem, groups: Sequence[InvariantGroup], optimizer: str
) -> torch.optim.Optimizer:
    """An optimizer with the invariant parameters in param groups of their own."""
    split = smd.optim.split_param_groups(
        problem.model, groups, OPTIMIZERS[optimizer](problem.model.parameters())
    )
    return OPTIMIZERS[optimizer](split)


def _on_sphere(told: tuple[str, str], make: Any, groups: Any) -> Iterator[Value]:
    """The two optimizers, fused and written with torch's operations."""
    name, granularity = told
    for fused in (False, True) if granularity == "layer" else (True,):
        key = f"{name}/{granularity}/{'fused' if fused else 'loop'}"
        problem = make()
        optimizer = smd.optim.AdaGradG(
            problem.model, groups, lr=0.5, beta=0.99, other={"lr": 0.05}, fused=fused
        )
        yield from trained(f"AdaGradG/{key}", problem, optimizer)
        yield from flatten(f"AdaGradG/{key}/moments", optimizer.second_moments())
        problem = make()
        optimizer = smd.optim.AdamG(
            problem.model, groups, lr=5e-3, other={"rule": "adamw", "lr": 1e-3}, fused=fused
        )
        yield from trained(f"AdamG/{key}", problem, optimizer)
        yield from flatten(f"AdamG/{key}/moments", optimizer.second_moments())
    if granularity == "filter":
        return
    problem = make()
    sgd = torch.optim.SGD(
        smd.optim.split_param_groups(problem.model, groups, lr=0.1, weight_decay=0.02)
    )
    optimizer = smd.optim.AdaGradG.from_sgd(problem.model, groups, sgd)
    yield from trained(
        f"AdaGradG/{name}/{granularity}/from_sgd",
        problem,
        optimizer,
        schedule=lr_scheduler.StepLR(optimizer, 60),
    )


def _rotational(told: tuple[str, str], make: Any, groups: Any) -> Iterator[Value]:
    name, granularity = told
    labels = ("sgd", "momentum", "nesterov", "adamw", "lion")
    for label in labels if told == ("conv", "layer") else ("momentum", "adamw"):
        problem = make()
        optimizer = _split(problem, groups, label)
        key = f"Rotational/{name}/{granularity}/{label}"
        with smd.optim.Rotational(problem.model, optimizer, groups) as rotational:
            yield from trained(
                key, problem, optimizer, schedule=lr_scheduler.StepLR(optimizer, 80, 0.3)
            )
            yield from flatten(f"{key}/angles", rotational.angles())
            yield from _saved(f"{key}/state_dict", rotational)
    if granularity == "filter":
        return
    problem = make()
    optimizer = _split(problem, groups, "adam")
    with smd.optim.Rotational(
        problem.model, optimizer, groups, angle=lambda hp, group: 5.0 * hp.lr
    ):
        yield from trained(f"Rotational/{name}/{granularity}/angle", problem, optimizer)
    optimizer = _split(problem, groups, "adam")
    key = f"Rotational/{name}/{granularity}/refused"
    yield from _refused(key, smd.optim.Rotational, problem.model, optimizer, groups)


def _rescaled(name: str, make: Any, groups: Any) -> Iterator[Value]:
    for label in OPTIMIZERS if name == "conv" else ("momentum", "adamw"):
        problem = make()
        optimizer = _split(problem, groups, label)
        key = f"RescaleOnDecay/{name}/{label}"
        events: list[float] = []

        def note(kind: str, *args: Any, _to: list[float] = events, **data: Any) -> None:
            _to.append(float(len(data)))

        tool = smd.optim.RescaleOnDecay(
            problem.model, optimizer, groups, problem.inputs, on_event=note, max_defect_after=None
        )
        schedule = lr_scheduler.MultiStepLR(optimizer, [20, 90], 0.2)
        yield from trained(key, problem, optimizer, schedule=schedule)
        yield f"{key}/events", len(events)
        yield from _saved(f"{key}/state_dict", tool)
        tool.close()
    problem = make()
    optimizer = _split(problem, groups, "momentum")
    options = {"threshold": 1.5, "skip_warmup": False, "factor": lambda old, new: 0.9}
    with smd.optim.RescaleOnDecay(
        problem.model, optimizer, groups, problem.inputs, **options, powers={"momentum_buffer": 0}
    ):
        schedule = lr_scheduler.CosineAnnealingLR(optimizer, 150)
        yield from trained(f"RescaleOnDecay/{name}/cosine", problem, optimizer, schedule=schedule)


def _scheduled(name: str, make: Any, groups: Any) -> Iterator[Value]:
    """What acts on rates and decays: the growing rate and the proportional decay."""
    schedulers: dict[str, Callable[[Any], Any]] = {
        "steps": lambda o: lr_scheduler.MultiStepLR(o, [50, 120]),
        "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 200),
        "warmup": lambda o: lr_scheduler.LinearLR(o, 0.01, 1.0, 30),
    }
    for label in ("sgd", "momentum"):
        for scheduler, of in schedulers.items():
            if scheduler != "steps" and (name, label) != ("conv", "momentum"):
                continue
            problem = make()
            optimizer = _split(problem, groups, label)
            inner = of(optimizer)
            key = f"ExponentialSchedule/{name}/{label}/{scheduler}"
            schedule = smd.optim.ExponentialSchedule(
                problem.model, optimizer, groups, inner, example_inputs=problem.inputs, largest=4.0
            )

            def said(number: int, key: str = key, schedule: Any = schedule) -> Iterator[Value]:
                yield f"{key}/{number}/last_lr", [float(x) for x in schedule.get_last_lr()]
                yield f"{key}/{number}/log_scales", [float(x) for x in schedule.log_scales]

            yield from trained(key, problem, optimizer, schedule=schedule, each=said)
            schedule.return_to_weight_decay()
            yield from snapshot(f"{key}/returned", problem.model, optimizer)
    for label in ("momentum", "adamw", "lion"):
        for scheduler, of in schedulers.items():
            if scheduler != "cosine" and (name, label) != ("conv", "adamw"):
                continue
            problem = make()
            optimizer = _split(problem, groups, label)
            inner = of(optimizer)
            key = f"ProportionalDecay/{name}/{label}/{scheduler}"
            told = {"lr_max": 0.05} if scheduler == "warmup" else {}
            with smd.optim.ProportionalDecay(problem.model, optimizer, groups, **told):
                yield from trained(key, problem, optimizer, schedule=inner)
            yield from snapshot(f"{key}/closed", problem.model, optimizer)
    problem = make()
    nesterov = _split(problem, groups, "nesterov")
    key = f"ExponentialSchedule/{name}/refused"
    yield from _refused(key, smd.optim.ExponentialSchedule, problem.model, nesterov, groups)


def _started(name: str, make: Any, groups: Any) -> Iterator[Value]:
    for label in ("sgd", "momentum", "nesterov", "adam", "adamw", "lion"):
        problem = make()
        optimizer = _split(problem, groups, label)
        key = f"scale_to_equilibrium/{name}/{label}"
        try:
            start = smd.optim.scale_to_equilibrium(
                problem.model,
                optimizer,
                groups,
                problem.batches,
                problem.loss,
                example_inputs=problem.inputs,
            )
        except Exception as error:  # its class is the value
            yield key, f"raises {type(error).__name__}"
            continue
        for field in ("names", "before", "after", "unit_grad_sq", "defect", "factors"):
            yield from flatten(f"{key}/{field}", getattr(start, field))
        yield f"{key}/left", sorted(start.left)
        yield from trained(key, problem, optimizer, 20, seen=(0, 19))


def _members(key: str, make: Any, groups: Any) -> Iterator[Value]:
    """Binding, splitting, and rescaling by hand."""
    problem = make()
    model = problem.model
    names = {id(p): n for n, p in model.named_parameters()}
    split = smd.optim.split_param_groups(model, groups, lr=0.1, invariant={"lr": 0.2})
    for i, group in enumerate(split):
        yield f"split_param_groups/{key}/{i}/params", [names[id(p)] for p in group["params"]]
        told = {k: v for k, v in group.items() if isinstance(v, (int, float))}
        yield from flatten(f"split_param_groups/{key}/{i}", told)
    kept = smd.optim.disjoint_groups(groups)
    yield f"disjoint_groups/{key}", [group.name for group in kept]
    optimizer = torch.optim.SGD(split, momentum=0.9)
    for number in range(5):
        problem.step(optimizer, number)
    members = smd.optim.bind(model, kept, optimizer)
    yield f"bind/{key}/names", list(members.names)
    yield f"bind/{key}/parameters", [names[id(p)] for p in members.parameters]
    yield from flatten(f"Members/{key}/norms", members.norms())
    tensors = list(members.parameters)
    grads = [parameter.grad for parameter in tensors]
    yield from flatten(f"Members/{key}/sums", members.sums(tensors, grads))
    factors = torch.linspace(0.5, 2.0, len(kept), dtype=torch.float64)
    members.scale_(factors)
    yield from snapshot(f"Members/{key}/scaled", model, optimizer)
    smd.optim.rescale_statistics_(model, kept, factors.tolist(), problem.inputs)
    yield from snapshot(f"rescale_statistics_/{key}", model, optimizer)
    pieces = [smd.optim.Piece(*_piece(model, s, optimizer)) for s in kept[0].slices]
    smd.optim.scale_state_(optimizer, pieces, 2.0)
    yield from snapshot(f"scale_state_/{key}", model, optimizer)
    yield f"Piece/{key}", [piece.numel for piece in pieces]


def _piece(model: Any, part: smd.Slice, optimizer: Any) -> tuple[Any, ...]:
    parameter = model.get_parameter(part.parameter)
    for number, group in enumerate(optimizer.param_groups):
        if any(parameter is p for p in group["params"]):
            return parameter, part, (optimizer, number), part.parameter
    raise LookupError(part.parameter)


def _ratios() -> Iterator[Value]:
    kinds: dict[str, dict[str, Any]] = {
        "sgd": {"optimizer": "sgd"},
        "momentum": {"optimizer": "sgd", "momentum": 0.9},
        "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
        "decoupled": {"optimizer": "sgd", "momentum": 0.9, "decoupled": True},
        "adam": {"optimizer": "adam", "betas": (0.9, 0.999)},
        "adamw": {"optimizer": "adamw", "betas": (0.9, 0.999)},
        "lion": {"optimizer": "lion", "betas": (0.9, 0.99)},
        "muon": {"optimizer": "muon", "momentum": 0.95},
        "other": {"optimizer": "other"},
    }
    for name, told in kinds.items():
        old = smd.HyperParameters(lr=0.1, weight_decay=0.01, **told)
        for label, lr, decay in (
            ("drop", 0.01, 0.01),
            ("rise", 0.3, 0.01),
            ("decay", 0.1, 0.1),
            ("none", 0.1, 0.0),
        ):
            new = smd.HyperParameters(lr=lr, weight_decay=decay, **told)
            key = f"equilibrium_norm_ratio/{name}/{label}"
            yield from call(key, smd.optim.equilibrium_norm_ratio, old, new)
    for norm in (0.5, 2.0):
        key = f"SgdOnSphere/{norm}"
        yield from call(key, smd.optim.AdaGradG.sgd_on_sphere, 0.1, 0.01, norm)


def _refused(key: str, tool: Any, *args: Any) -> Iterator[Value]:
    """The class of the exception with which a tool refuses to be built."""
    try:
        tool(*args)
    except Exception as error:  # its class is the value
        yield key, f"raises {type(error).__name__}"
    else:
        yield key, "accepted"


def _saved(key: str, tool: Any) -> Iterator[Value]:
    """The names in a tool's state: what a checkpoint of today must hold tomorrow."""
    yield key, sorted(map(str, copy.copy(tool.state_dict())))
