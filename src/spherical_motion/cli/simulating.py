"""`smd simulate`: step the norm of one group through a planned run and compare with theory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from spherical_motion import theory
from spherical_motion.cli import options
from spherical_motion.cli.plotting import Line, line_chart
from spherical_motion.cli.printing import number_table, print_json, stdout
from spherical_motion.errors import OutOfDomain
from spherical_motion.notices import printable
from spherical_motion.vocabulary import Schedule

if TYPE_CHECKING:
    from spherical_motion.simulate import Drive, NormRun

Array = NDArray[np.float64]


def simulate_command(
    context: typer.Context,
    lr: options.LR,
    weight_decay: options.WEIGHT_DECAY,
    momentum: options.MOMENTUM = None,
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
    unit_grad_sq: Annotated[
        float, typer.Option(help="Mean squared norm L of the unit gradient.")
    ] = 10.0,
    noise: Annotated[float, typer.Option(help="Largest random change of L in a step.")] = 0,
    sway: Annotated[float, typer.Option(help="Amplitude of a slow sine in L.")] = 0.0,
    period: Annotated[float, typer.Option(help="The sine is sin(step/period).")] = 1e5,
    norm0: Annotated[
        float | None, typer.Option(help="Norm at the start. Left out: half the equilibrium norm.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Also write the chart to this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a chart.")] = False,
) -> None:
    """Simulate the norm and angle of a group under SGD exactly, and compare with theory.

    Example: smd simulate --lr 0.1 --weight-decay 1e-3 --momentum 0.9 --steps 200000 --noise 3

    Example: smd simulate --lr 0.1 --wd 1e-4 --momentum 0.9 --epochs 90 --steps-per-epoch 5005
    --milestones 30,60,80 --html norms.html
    """
    from spherical_motion.simulate import Drive, norm_through

    hp = options.settings_from("sgd", lr, weight_decay, momentum)
    plan = options.plan_from(context, hp)
    drive = Drive(unit_grad_sq, noise=noise, sway=sway, period=period)
    if norm0 is None:
        norm0 = 0.5 * theory.equilibrium_norm(hp, unit_grad_sq=unit_grad_sq)
    run = norm_through(plan, drive, norm0=norm0, seed=seed)
    rest, angle = _at_rest(plan, drive, run)
    if json:
        print_json(_plain(run, rest, angle))
    else:
        _print(plan, run, rest, angle)
    if html is not None:
        from spherical_motion.reporting import NormPanel, write_norm_page

        panel = NormPanel(
            f"SGD, lr {lr:g}, weight decay {weight_decay:g}, momentum {hp.momentum:g}",
            run.step,
            run.norm_sq,
            rest,
            run.drive if noise or sway else None,
        )
        print(printable(str(write_norm_page(html, [panel], "smd simulate"))))


def _at_rest(plan: Schedule, drive: Drive, run: NormRun) -> tuple[Array, Array]:
    """|w*|² and Δ* of each kept step's settings and expected drive; NaN without an equilibrium."""
    rest = np.full(run.step.shape, np.nan)
    angle = rest.copy()
    for i, (step, expected) in enumerate(zip(run.step, drive.expected(run.step), strict=True)):
        hp = plan.at(int(step))
        try:
            rest[i] = theory.equilibrium_norm(hp, unit_grad_sq=float(expected)) ** 2
            angle[i] = theory.equilibrium_angle(hp)
        except OutOfDomain:
            continue
    return rest, angle


def _print(plan: Schedule, run: NormRun, rest: Array, angle: Array) -> None:
    console = stdout()
    wide = min(console.width - 14, 100)
    for title, found, theoretical, log in (
        ("squared norm ‖w‖² before each step", run.norm_sq, rest, False),
        ("angle per step, rad", run.angle, angle, True),
    ):
        console.print(f"\n{title}", style="bold")
        lines = [
            Line("at equilibrium (theory)", run.step, theoretical, "yellow", dashed=True),
            Line("simulated", run.step, found, "cyan"),
        ]
        console.print(line_chart(lines, width=wide, log=log))
    console.print()
    console.print(_table(plan, run, rest, angle))
    console.print("Means over the last tenth of each stage; root mean squares for the angle.")


def _table(plan: Schedule, run: NormRun, rest: Array, angle: Array) -> Table:
    table = number_table("stage", "steps", "‖w‖²", "theory", "ratio", "angle", "theory", "ratio")
    for number, stage in enumerate(plan.stages(), start=1):
        edges = np.array([stage.stop - max(stage.steps // 10, 1), stage.stop]) - plan.start
        first, last = np.searchsorted(run.step, edges)
        part = slice(int(min(first, last - 1)), int(last))
        norms = float(run.norm_sq[part].mean()), float(rest[part].mean())
        angles = (float(np.sqrt((x[part] ** 2).mean())) for x in (run.angle, angle))
        cells: list[str] = []
        for found, theoretical in (norms, tuple(angles)):
            cells += [f"{found:.4g}", f"{theoretical:.4g}", f"{found / theoretical:.3f}"]
        steps = f"{stage.start:,}–{stage.stop:,}"
        table.add_row(str(number), steps, *(cell.replace("nan", "–") for cell in cells))
    return table


def _plain(run: NormRun, rest: Array, angle: Array) -> dict[str, object]:
    return {
        "step": run.step.tolist(),
        "norm_sq": run.norm_sq.tolist(),
        "norm_sq_at_rest": rest.tolist(),
        "angle": run.angle.tolist(),
        "equilibrium_angle": angle.tolist(),
        "drive": run.drive.tolist(),
    }
