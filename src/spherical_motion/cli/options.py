"""Settings and schedules as command-line options, shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from spherical_motion.errors import InvalidArgument
from spherical_motion.vocabulary import HyperParameters, Schedule

Optimizer = Literal["sgd", "adam", "adamw", "lion", "muon"]
Shape = Literal["constant", "step", "cosine", "polynomial", "exponential", "wsd"]

MOMENTA = {"sgd": 0.0, "adam": 0.9, "adamw": 0.9, "lion": 0.9, "muon": 0.95}
BETA2S = {"adam": 0.999, "adamw": 0.999, "lion": 0.99}

OPTIMIZER = Annotated[Optimizer, typer.Option(help="Which optimizer.")]
LR = Annotated[float, typer.Option("--lr", help="Learning rate (the highest).")]
WEIGHT_DECAY = Annotated[float, typer.Option("--weight-decay", "--wd", help="Weight decay.")]
MOMENTUM = Annotated[
    float | None,
    typer.Option(help="Momentum, or β1. Left out: 0 for sgd, 0.95 for muon, 0.9 for others."),
]
BETA2 = Annotated[
    float | None, typer.Option(help="β2. Left out: 0.999 for adam and adamw, 0.99 for lion.")
]
NESTEROV = Annotated[bool, typer.Option("--nesterov", help="SGD with Nesterov momentum.")]
DECOUPLED = Annotated[
    bool, typer.Option("--decoupled", help="Weight decay acts on the weights, not the gradient.")
]
CORRELATION = Annotated[
    float | None, typer.Option(help="Muon: 1 + 2·sum of its steps' autocorrelations.")
]

PULL = Annotated[
    str | None,
    typer.Option(
        help="Pull of weight decay and loss in a former run (smd compare prints it); one number, "
        "or one for each stage, like 5e-4,3e-4."
    ),
]
PULL_FROM = Annotated[
    Path | None,
    typer.Option(
        help="Instead of --pull: that run. Its loss pulls again, and the plan starts at its last "
        "norm; with --group."
    ),
]
GROUP = Annotated[str | None, typer.Option(help="The group of --pull-from.")]

SCHEDULE = Annotated[
    Shape | None,
    typer.Option(help="Shape of the learning rate. Left out: step with milestones, else constant."),
]
STEPS = Annotated[int | None, typer.Option(help="Length of the run in steps.")]
EPOCHS = Annotated[float | None, typer.Option(help="Length in epochs; with --steps-per-epoch.")]
STEPS_PER_EPOCH = Annotated[int | None, typer.Option(help="Optimizer steps in an epoch.")]
MILESTONES = Annotated[
    str | None, typer.Option(help="Where the rate drops, like 30,60,80; in epochs with --epochs.")
]
FACTOR = Annotated[float, typer.Option(help="Each milestone divides the rate by this.")]
WARMUP = Annotated[float, typer.Option(help="Steps or epochs of linear warm-up.")]
DECAY = Annotated[float, typer.Option(help="wsd: steps or epochs of the final decay.")]
FINAL_LR = Annotated[float, typer.Option(help="Last rate of cosine, polynomial, exponential, wsd.")]
POWER = Annotated[float, typer.Option(help="Power of the polynomial; 1 is a straight line.")]
CSV = Annotated[
    Path | None,
    typer.Option("--csv", help="Read a table instead: step or epoch, lr, weight_decay, momentum."),
]


def settings_from(
    optimizer: str,
    lr: float,
    weight_decay: float,
    momentum: float | None,
    beta2: float | None = None,
    nesterov: bool = False,
    decoupled: bool = False,
) -> HyperParameters:
    """Hyperparameters from the options, with the defaults of each optimizer."""
    return HyperParameters(
        optimizer,
        lr=lr,
        weight_decay=weight_decay,
        momentum=MOMENTA[optimizer] if momentum is None else momentum,
        beta2=BETA2S.get(optimizer) if beta2 is None else beta2,
        nesterov=nesterov,
        decoupled=decoupled or None,
    )


def pulls_from(text: str | None) -> float | dict[int, float] | None:
    """The value of --pull: one number for all stages, or one for each."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidArgument(f"--pull must be numbers like 5e-4,3e-4, got {text!r}.") from None
    return values[0] if len(values) == 1 else dict(enumerate(values, start=1))


def plan_from(context: typer.Context, hp: HyperParameters) -> Schedule:
    """The planned run, from the options that the command shares with the fields of `PlanOptions`.

    Raises:
        InvalidArgument: options contradict each other, or one is missing.
    """
    return PlanOptions(**{name: context.params[name] for name in PlanOptions._fields}).plan(hp)


class PlanOptions(NamedTuple):
    """The options that describe a run."""

    schedule: str | None
    steps: int | None
    epochs: float | None
    steps_per_epoch: int | None
    milestones: str | None
    factor: float
    warmup: float
    decay: float
    final_lr: float
    power: float
    csv: Path | None

    def plan(self, hp: HyperParameters) -> Schedule:
        """The planned run of `plan_from`."""
        if self.csv is not None:
            length = self._length() if self.steps or self.epochs else None
            per_epoch = self.steps_per_epoch
            return Schedule.from_csv(self.csv, hp, steps=length, steps_per_epoch=per_epoch)
        steps, warmup = self._length(), self._count("--warmup", self.warmup)
        if self.schedule == "wsd":
            decay = self._count("--decay", self.decay)
            return Schedule.warmup_stable_decay(hp, steps, warmup, decay, self.final_lr)
        if 0 < steps <= warmup:
            raise InvalidArgument(f"--warmup takes {warmup:,} of {steps:,} steps, so none is left.")
        rest = self._after_warmup(hp, steps - warmup, warmup)
        return Schedule.linear_warmup(hp, warmup).then(rest) if warmup else rest

    def _after_warmup(self, hp: HyperParameters, steps: int, before: int) -> Schedule:
        shape = self.schedule or ("step" if self.milestones is not None else "constant")
        if (shape == "step") != (self.milestones is not None):
            raise InvalidArgument(
                "--schedule step needs --milestones, like 30,60,80, and no other schedule takes it."
            )
        if shape == "step":
            drops = [stone - before for stone in self._milestones()]
            if drops[0] <= 0:
                raise InvalidArgument("--milestones must lie after --warmup.")
            return Schedule.step_decay(hp, steps, drops, self.factor)
        if shape == "cosine":
            return Schedule.cosine(hp, steps, self.final_lr)
        if shape == "polynomial":
            return Schedule.polynomial(hp, steps, self.power, self.final_lr)
        if shape == "exponential":
            return Schedule.exponential(hp, steps, self.final_lr)
        return Schedule.constant(hp, steps)

    def _length(self) -> int:
        if (self.steps is None) == (self.epochs is None):
            raise InvalidArgument(
                "The run has no length. Pass either --steps, or --epochs with --steps-per-epoch."
            )
        return self.steps or 0 if self.epochs is None else self._count("--epochs", self.epochs)

    def _milestones(self) -> list[int]:
        try:
            stones = [float(part) for part in (self.milestones or "").split(",")]
        except ValueError:
            raise InvalidArgument(
                f"--milestones must be numbers like 30,60,80, got {self.milestones!r}."
            ) from None
        return [self._count("--milestones", stone) for stone in stones]

    def _count(self, option: str, value: float) -> int:
        """Steps for a value in steps, or in epochs if the run's length is in epochs."""
        scale = 1 if self.epochs is None else self.steps_per_epoch
        if scale is None:
            raise InvalidArgument("--epochs needs --steps-per-epoch.")
        if not 0 <= value * scale < 2**40:
            raise InvalidArgument(f"{option} must be finite and >= 0, got {value:g}.")
        return round(value * scale)
