"""`smd forecast`: what each stage of a planned run will do, before the run starts."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import typer
from rich.console import Console

from spherical_motion.cli import options, printing
from spherical_motion.cli.printing import number_text
from spherical_motion.comparison import compare
from spherical_motion.errors import InvalidArgument
from spherical_motion.forecasting import WITHIN, Forecast, Outcome, StageForecast, forecast
from spherical_motion.notices import printable
from spherical_motion.records import Records, read
from spherical_motion.vocabulary import Schedule, Tone

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
    correlation: options.CORRELATION = None,
    pull: options.PULL = None,
    pull_from: options.PULL_FROM = None,
    group: options.GROUP = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Forecast a run: the equilibrium of each stage, whether it is reached, and what would help.

    Example: smd forecast --lr 0.1 --weight-decay 1e-4 --momentum 0.9 --epochs 90
    --steps-per-epoch 5005 --milestones 30,60,80

    Example: smd forecast --optimizer adamw --lr 1e-3 --wd 0.1 --steps 100000 --schedule cosine
    --warmup 2000

    Example: smd forecast --lr 0.1 --wd 5e-4 --momentum 0.9 --csv plan.csv --steps-per-epoch 391

    Example: smd forecast --optimizer adamw --lr 1e-3 --wd 0.1 --steps 20000 --pull 0.034

    Example: smd forecast --lr 0.05 --wd 5e-4 --momentum 0.9 --steps 20000
    --pull-from runs/mine --group head

    Exits with 1 if a stage of constant settings ends before it is within 5% of its equilibrium.
    """
    hp = options.settings_from(optimizer, lr, weight_decay, momentum, beta2, nesterov, decoupled)
    plan = options.plan_from(context, hp)
    known = {"unit_grad_sq": unit_grad_sq, "numel": numel, "unit_grad_rms": unit_grad_rms}
    former = options.pulls_from(pull)
    if pull_from is not None:
        if pull is not None:
            raise InvalidArgument("Pass either --pull or --pull-from, not both.")
        former = read(pull_from)
    found = forecast(plan, norm0, pull=former, group=group, correlation=correlation, **known)
    if json:
        printing.print_json(_plain(found))
    else:
        verdict = _caution(former, group) if isinstance(former, Records) and group else ""
        _print(found, plan, steps_per_epoch, verdict)
    raise typer.Exit(1 if found.falling_short else 0)


def _caution(former: Records, group: str) -> str:
    """What a comparison holds against the group's last stage; empty if nothing."""
    verdict = compare(former)[group].verdict
    if verdict.tone not in (Tone.CAUTION, Tone.ALARM):
        return ""
    state = verdict.kind.meaning.state or verdict.kind.value
    return f"In that run {group} is {state}: {verdict.reason}."


def _print(found: Forecast, plan: Schedule, steps_per_epoch: int | None, verdict: str) -> None:
    console = printing.stdout()
    heading = f"{_name(plan)}, momentum {plan.hp.momentum:g}, {plan.steps:,} steps, {found.start}."
    if found.guess:
        heading += " A guess: the pull changes with the norm, and the plan takes it to stay."
    heading += "\n"
    console.print(heading, markup=False)
    unit, what = (steps_per_epoch, "epochs") if steps_per_epoch else (1, "steps")
    pulls = any(math.isfinite(stage.pull) for stage in found)
    names = ("stage", what, "lr", "decay", *(["pull"] if pulls else []), "equil. rad", "at end")
    table = printing.number_table(*names, "share", "steps", "needs")
    table.add_column("")
    for i, stage in enumerate(found.stages[:MOST_ROWS], start=1):
        unsure = stage.guess or stage.may_not_rest or found.doubt
        colour = "default" if unsure else COLOURS.get(stage.outcome, "default")
        outcome = f"[{colour}]{stage.end}[/]"
        table.add_row(str(i), *_cells(stage, unit, pulls), outcome)
    console.print(table)
    if len(found) > MOST_ROWS:
        console.print(f"... and {len(found) - MOST_ROWS} more stages (--json has all)")
    console.print(
        "\nequil. rad: equilibrium angle a step; at end: angle at the end of the stage; share: the "
        f"latter\ndivided by the former; needs: steps to come within {WITHIN:.0%}."
    )
    _explain(console, found, verdict)


def _explain(console: Console, found: Forecast, verdict: str) -> None:
    stages = enumerate(found, start=1)
    noted = [(i, stage) for i, stage in stages if not stage.settles or stage.may_not_rest]
    console.print("\nWhat this says", style="bold")
    if found.doubt:
        console.print(f"• Do not rely on it: {found.doubt}.", markup=False)
    if verdict:
        console.print(f"• {printable(verdict)}", markup=False)
    if not noted and not found.doubt and not found.guess:
        console.print("• Every stage reaches its equilibrium.", markup=False)
    for i, stage in (noted if found.assumed else list(enumerate(found, start=1)))[:MOST_ROWS]:
        console.print(f"• Stage {i}, {stage}", markup=False)
    if found.assumed:
        console.print(
            "• The start at rest is assumed. To start where a run ended: --pull-from DIR --group G",
            markup=False,
        )
    if any(stage.remedy for stage in found):
        console.print(
            "• Angle and pace depend only on lr × weight decay (lr × pull, if one is given): "
            "raising one of them speeds a stage up and raises its angle. Each remedy assumes that "
            "earlier stages stay as planned.",
            markup=False,
        )


def _cells(stage: StageForecast, unit: int, pulls: bool) -> list[str]:
    start, stop, hp = stage.stage.start, stage.stage.stop, stage.stage.hp
    settled = stage.outcome in (Outcome.SETTLES, Outcome.FALLS_SHORT)
    return [
        f"{start / unit:,.6g}–{stop / unit:,.6g}" if unit > 1 else f"{start:,}–{stop:,}",
        f"{hp.lr:g}" if hp else "varies",
        f"{hp.weight_decay:g}" if hp else "",
        *([number_text(stage.pull)] if pulls else []),
        number_text(stage.equilibrium_angle),
        number_text(stage.angle_end),
        number_text(1.0 / stage.shortfall, ".2f"),
        f"{stage.stage.steps:,}",
        f"{stage.steps_needed:,.0f}" if settled else "–",
    ]


def _name(plan: Schedule) -> str:
    hp = plan.hp
    name = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(hp.optimizer, hp.optimizer.title())
    name += " with Nesterov momentum" if hp.nesterov else ""
    if hp.optimizer in ("sgd", "adam"):
        name += ", decoupled weight decay" if hp.decoupled else ", L2 weight decay"
    return name


def _plain(found: Forecast) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(StageForecast)]
    names = [name for name in names if name not in ("stage", "outcome", "remedy")]
    rows = [
        {
            **printing.stage_to_plain(i, stage.stage),
            "outcome": stage.outcome.value,
            "end": stage.end,
            **{name: getattr(stage, name) for name in names},
            "shortfall": stage.shortfall,
            "remedy": dataclasses.asdict(stage.remedy) if stage.remedy else None,
            "sentence": str(stage),
        }
        for i, stage in enumerate(found, start=1)
    ]
    return {
        "start": found.start,
        "falls_short": bool(found.falling_short),
        "doubt": found.doubt,
        "stages": rows,
    }
