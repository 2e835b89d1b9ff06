"""Figures 3 and 4 of Wan et al. (2021), all eight panels: simulated |w|² against its value at rest.

Prints, for each panel, the ratio of the two over the last half of the run: its mean, its root mean
square deviation from 1 and its largest one. Figure 3 (SGD) is stepped both exactly and as the paper
prints it, without the square of ηλ.

    python benchmarks/wan2021_figures.py [--steps 1000000] [--html PATH] [--picture PATH]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spherical_motion import theory
from spherical_motion.reporting.norm_page import NormPanel, write_norm_page
from spherical_motion.simulate import WAN2021_DRIVES, norm_sgd, norm_sgdm
from spherical_motion.vocabulary import HyperParameters

LR, WEIGHT_DECAY, NORM0 = 0.1, 1e-3, math.sqrt(10.0)
LABELS = {
    "a": "L = 10",
    "b": "L = 10 + U(-3, 3)",
    "c": "L = 10 + sin(t/1e5)",
    "d": "L = 10 + sin(t/1e5) + U(-3, 3)",
}


class Panel(NamedTuple):
    """One panel: |w|² at the kept steps, its value at rest for the drive expected there."""

    name: str
    label: str
    step: Any
    simulated: Any
    at_rest: Any
    drive: Any

    @property
    def ratio(self) -> Any:
        """Simulated over theory in the last half of the run."""
        half = self.step.size // 2
        return (self.simulated / self.at_rest)[half:]


def panels(steps: int = 1_000_000, printed: bool = False) -> Iterator[Panel]:
    """The eight panels; `printed` steps figure 3 by equation 185 as it stands."""
    for figure, momentum in (("3", 0.0), ("4", 0.9)):
        hp = HyperParameters("sgd", lr=LR, weight_decay=WEIGHT_DECAY, momentum=momentum)
        # |w*|² grows as the root of the drive.
        unit = theory.equilibrium_norm(hp, unit_grad_sq=1.0) ** 2
        for name, drive in WAN2021_DRIVES.items():
            if momentum:
                run = norm_sgdm(LR, WEIGHT_DECAY, momentum, drive, norm0=NORM0, steps=steps)
            else:
                run = norm_sgd(LR, WEIGHT_DECAY, drive, norm0=NORM0, steps=steps, printed=printed)
            at_rest = unit * np.sqrt(drive.expected(run.step))
            label = f"{figure}{name}  {'SGDM' if momentum else 'SGD'}, {LABELS[name]}"
            yield Panel(figure + name, label, run.step, run.norm_sq, at_rest, run.drive)


def table(steps: int = 1_000_000) -> str:
    """The eight panels as numbers, a Markdown table."""
    rows = [
        "| panel | drive L | |w|² at rest | simulated / theory | rms deviation | largest |",
        "|---|---|---|---|---|---|",
    ]
    as_printed = {panel.name: panel for panel in panels(steps, printed=True)}
    for panel in panels(steps):
        ratio = panel.ratio
        mean = f"{ratio.mean():.5f}"
        if panel.name.startswith("3"):
            mean += f" (as printed {as_printed[panel.name].ratio.mean():.5f})"
        rms, largest = np.sqrt(((ratio - 1) ** 2).mean()), np.abs(ratio - 1).max()
        low, high = panel.at_rest.min(), panel.at_rest.max()
        rest = f"{low:.2f}" if high == low else f"{low:.2f}-{high:.2f}"
        label = LABELS[panel.name[1]]
        rows.append(f"| {panel.name} | {label} | {rest} | {mean} | {rms:.1e} | {largest:.1e} |")
    return "\n".join(rows).replace("|w|²", "‖w‖²")


def main() -> None:
    """Print the table, and draw if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--html", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    print(table(arguments.steps))
    if arguments.html:
        print(_draw(arguments.steps, arguments.html))
    if arguments.picture:
        with tempfile.TemporaryDirectory() as directory:
            _photograph(_draw(arguments.steps, Path(directory) / "page.html"), arguments.picture)
        print(arguments.picture)


def _draw(steps: int, path: Path) -> Path:
    charts = [NormPanel(p.label, p.step, p.simulated, p.at_rest, p.drive) for p in panels(steps)]
    return write_norm_page(path, charts, "wan2021, figures 3 and 4", columns=4, size=(340, 270))


def _photograph(page: Path, picture: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reporting"))
    from browser import open_page

    with open_page(page, width=1400, height=720) as opened:
        opened.wait_for("Boolean(window.Bokeh)")
        opened.evaluate("new Promise(done => setTimeout(() => done(true), 1500))")
        opened.screenshot(picture)


if __name__ == "__main__":
    main()
