"""`smd forecast`: what each stage of a planned run will do, before the run starts."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import typer
from rich.console import Console

from spherical_motion.cli import options
from spherical_motion.cli.printing import number_table, print_json, stdout
from spherical_motion.forecasting import WITHIN, Forecast, Outcome, StageForecast, forecast
from spherical_motion.vocabulary import Schedule

COLOURS = {Outcome.SETTLES: "green", Outcome.FALLS_SHORT: "yellow"}
MOST_ROWS = 40
"""Most stages to print; a schedule that changes every epoch has one for each."""


def forecast_command(
    context: typer.Context,
    lr: options.LR,
    weight_decay: options.WEIGHT_DECAY,
    momentum: options.MOMENTUM = None,
    optimizer: options.OPTIMIZER = "sgd",
    steps: options.STEPS = None,
    epochs: options.EPOCHS = None,
    steps_per_epoch: options.STEPS_PER_EPOCH = None,
    milestones: options.MILESTONES = None,
    factor: options.FACTOR = 10.0,
    schedule: options.SCHEDULE = None,
    warmup: options.WARMUP = 0.0,
    decay: options.DECAY = 0.0,
    final_lr: options.FINAL_LR = 0.0,
    power: options.POWER = 1.0,
    csv: options.CSV = None,
    beta2: options.BETA2 = None,
    nesterov: options.NESTEROV = False,
    decoupled: options.DECOUPLED = False,
    norm0: Annotated[float | None, typer.Option(help="Norm of the group at the start.")] = None,
    unit_grad_sq: Annotated[
        float | None, typer.Option(help="SGD: mean squared norm of the unit gradient.")
    ] = None,
    numel: Annotated[float | None, typer.Option(help="Entries of the group.")] = None,
    unit_grad_rms: Annotated[
        float | None, typer.Option(help="Adam with L2: RMS of the unit gradient's entries.")
    ] = None,
    correlation: Annotated[
        float | None, typer.Option(help="Muon: 1 + 2·sum of its steps' autocorrelations.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Forecast a run: the equilibrium of each stage, whether it is reached, and what would help.

    Example: smd forecast --lr 0.1 --weight-decay 1e-4 --momentum 0.9 --epochs 90
    --steps-per-epoch 5005 --milestones 30,60,80

    Example: smd forecast --optimizer adamw --lr 1e-3 --wd 0.1 --steps 100000 --schedule cosine
    --warmup 2000

    Example: smd forecast --lr 0.1 --wd 5e-4 --momentum 0.9 --csv plan.csv --steps-per-epoch 391

    Exits with 1 if a stage of constant settings ends before it is within 5% of its equilibrium.
    """
    hp = options.settings_from(optimizer, lr, weight_decay, momentum, beta2, nesterov, decoupled)
    plan = options.plan_from(context, hp)
    found = forecast(
        plan,
        norm0,
        unit_grad_sq=unit_grad_sq,
        numel=numel,
        unit_grad_rms=unit_grad_rms,
        correlation=correlation,
    )
    if json:
        print_json(_plain(found))
    else:
        _print(found, plan, steps_per_epoch)
    raise typer.Exit(1 if found.falling_short else 0)


def _print(found: Forecast, plan: Schedule, steps_per_epoch: int | None) -> None:
    console = stdout()
    console.print(
        f"{_name(plan)}, momentum {plan.hp.momentum:g}, {plan.steps:,} steps, {found.start}.\n",
        markup=False,
    )
    unit, what = (steps_per_epoch, "epochs") if steps_per_epoch else (1, "steps")
    names = ("stage", what, "lr", "decay", "equil. rad", "at end", "share", "steps", "needs")
    table = number_table(*names)
    table.add_column("")
    for number, stage in enumerate(found.stages[:MOST_ROWS], start=1):
        table.add_row(str(number), *_cells(stage, unit), _outcome(stage))
    console.print(table)
    if len(found) > MOST_ROWS:
        console.print(f"... and {len(found) - MOST_ROWS} more stages (--json has all)")
    console.print(
        "\nequil. rad: equilibrium angle a step; at end: angle at the end of the stage; share: the "
        f"latter\ndivided by the former; needs: steps to come within {WITHIN:.0%}."
    )
    _explain(console, found)


def _explain(console: Console, found: Forecast) -> None:
    noted = [
        (number, stage)
        for number, stage in enumerate(found, start=1)
        if stage.outcome is not Outcome.SETTLES
    ]
    console.print("\nWhat this says", style="bold")
    if not noted:
        console.print("• Every stage reaches its equilibrium.")
    for number, stage in noted[:MOST_ROWS]:
        console.print(f"• Stage {number}, {stage}", markup=False)
    if found.falling_short:
        console.print(
            "• Angle and pace depend only on lr × weight decay: raising one of them speeds a stage "
            "up and raises its angle. Each remedy assumes that earlier stages stay as planned.",
            markup=False,
        )


def _cells(stage: StageForecast, unit: int) -> list[str]:
    hp = stage.stage.hp
    settled = stage.outcome in (Outcome.SETTLES, Outcome.FALLS_SHORT)
    return [
        f"{stage.stage.start / unit:,.6g}–{stage.stage.stop / unit:,.6g}"
        if unit > 1
        else f"{stage.stage.start:,}–{stage.stage.stop:,}",
        f"{hp.lr:g}" if hp else "varies",
        f"{hp.weight_decay:g}" if hp else "",
        _number(stage.equilibrium_angle),
        _number(stage.angle_end),
        _number(1.0 / stage.shortfall, ".2f"),
        f"{stage.stage.steps:,}",
        f"{stage.steps_needed:,.0f}" if settled else "–",
    ]


def _outcome(stage: StageForecast) -> str:
    return f"[{COLOURS.get(stage.outcome, 'default')}]{stage.outcome.value}[/]"


def _number(value: float, spec: str = ".3g") -> str:
    return format(value, spec) if math.isfinite(value) else "–"


def _name(plan: Schedule) -> str:
    hp = plan.hp
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(hp.optimizer, hp.optimizer.title())
    name += " with Nesterov momentum" if hp.nesterov else ""
    if hp.optimizer in ("sgd", "adam"):
        name += ", decoupled weight decay" if hp.decoupled else ", L2 weight decay"
    return name


def _plain(found: Forecast) -> dict[str, object]:
    rows: list[dict[str, object]] = []
    for number, stage in enumerate(found, start=1):
        row = {
            f.name: getattr(stage, f.name)
            for f in dataclasses.fields(stage)
            if f.name not in ("stage", "outcome", "remedy")
        }
        hp = stage.stage.hp
        rows.append(
            {
                "stage": number,
                "start": stage.stage.start,
                "stop": stage.stage.stop,
                "lr": hp.lr if hp else None,
                "weight_decay": hp.weight_decay if hp else None,
                "momentum": hp.momentum if hp else None,
                "outcome": stage.outcome.value,
                **row,
                "shortfall": stage.shortfall,
                "remedy": dataclasses.asdict(stage.remedy) if stage.remedy else None,
                "sentence": str(stage),
            }
        )
    return {"start": found.start, "falls_short": bool(found.falling_short), "stages": rows}
