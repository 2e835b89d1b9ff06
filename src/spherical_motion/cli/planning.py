"""`smd plan`: settings for a wanted angle or pace, and the effect of a larger batch on both."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.table import Table

from spherical_motion.cli import options
from spherical_motion.cli.printing import number_table, print_json, stdout
from spherical_motion.errors import InvalidArgument
from spherical_motion.forecasting import (
    BatchScaling,
    Setting,
    scale_batch,
    settings_for_angle,
    settings_for_time_constant,
)


def plan_command(
    lr: options.LR,
    weight_decay: Annotated[
        float,
        typer.Option(
            "--weight-decay", "--wd", help="Weight decay now; for --batch-factor, --pull."
        ),
    ] = 0.0,
    momentum: options.MOMENTUM = None,
    optimizer: options.OPTIMIZER = "sgd",
    angle: Annotated[float | None, typer.Option(help="Wanted angle a step, rad.")] = None,
    time_constant: Annotated[
        float | None, typer.Option(help="Wanted steps in which the norm relaxes by a factor e.")
    ] = None,
    batch_factor: Annotated[
        float | None, typer.Option(help="Compare scaling rules for a batch larger by this factor.")
    ] = None,
    steps_per_epoch: options.STEPS_PER_EPOCH = None,
    beta2: options.BETA2 = None,
    nesterov: options.NESTEROV = False,
    decoupled: options.DECOUPLED = False,
    correlation: options.CORRELATION = None,
    pull: Annotated[
        float | None,
        typer.Option(help="Pull of decay and loss in a former run with --weight-decay."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Plan settings for an angle or a pace, or show the effect of a larger batch on both.

    Example: smd plan --lr 0.1 --momentum 0.9 --angle 3e-3

    Example: smd plan --optimizer adamw --lr 1e-3 --time-constant 5000

    Example: smd plan --lr 0.1 --wd 1e-4 --momentum 0.9 --batch-factor 4 --steps-per-epoch 5004
    """
    hp = options.settings_from(optimizer, lr, weight_decay, momentum, beta2, nesterov, decoupled)
    if [angle, time_constant, batch_factor].count(None) != 2:
        raise InvalidArgument(
            "smd plan needs exactly one of --angle, --time-constant and --batch-factor."
        )
    found: tuple[Setting, ...] | tuple[BatchScaling, ...]
    if batch_factor is not None:
        if pull is not None:
            raise InvalidArgument("--batch-factor takes no --pull: pass it with --angle.")
        if steps_per_epoch is None:
            raise InvalidArgument("--batch-factor needs --steps-per-epoch of the present batch.")
        found = scale_batch(hp, batch_factor, steps_per_epoch, correlation=correlation)
        table = _batch_table(found)
    elif angle is not None:
        found = settings_for_angle(hp, angle, pull=pull, correlation=correlation)
        table = _pair_table(found)
    else:
        found = settings_for_time_constant(
            hp, time_constant or 0.0, pull=pull, correlation=correlation
        )
        table = _pair_table(found)
    if json:
        print_json([dataclasses.asdict(entry) for entry in found])
        return
    console = stdout()
    console.print(table)
    if batch_factor is None:
        what = "weight decay" if pull is None else "pull"
        console.print(
            "\nAll of these give the same motion on the sphere: angle and time constant depend "
            f"only on lr × {what}.\nAt the same time constant, "
            "more momentum gives a smaller angle."
        )
        if pull is not None:
            console.print(
                "The loss's part of the pull is taken to stay as it was; that is a guess for "
                "weights that are\nnot scale-invariant, whose pull changes with the norm."
            )
    else:
        console.print(
            "\nunchanged: the present batch. angle an epoch: between weights one epoch apart, if "
            "gradients are uncorrelated;\nπ/2 means a new direction."
        )


def _pair_table(found: tuple[Setting, ...]) -> Table:
    table = number_table("lr", "weight decay", "angle rad", "time constant")
    for s in found:
        table.add_row(*_setting(s), f"{s.time_constant:,.0f} steps")
    return table


def _batch_table(found: tuple[BatchScaling, ...]) -> Table:
    names = ("rule", "lr", "weight decay", "angle rad", "steps an epoch", "angle an epoch")
    table = number_table(*names, "time constant", "in epochs")
    for s in found:
        table.add_row(
            s.rule,
            *_setting(s.setting),
            f"{s.steps_per_epoch:,.0f}",
            f"{s.epoch_angle:.2f}",
            f"{s.setting.time_constant:,.0f} steps",
            f"{s.time_constant_epochs:.3g}",
        )
    return table


def _setting(s: Setting) -> tuple[str, str, str]:
    return f"{s.lr:.4g}", f"{s.weight_decay:.4g}", f"{s.angle:.4g}"
