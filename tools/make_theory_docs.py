"""Write the computed tables of docs/theory.md: forecasts and simulated panels (make docs)."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from spherical_motion.forecasting import Forecast, forecast
from spherical_motion.vocabulary import HyperParameters, Schedule

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs/theory.md"


def published() -> dict[str, Schedule]:
    """The trainings whose settings the papers print."""

    def sgd(lr: float, weight_decay: float = 1e-4) -> HyperParameters:
        return HyperParameters("sgd", lr=lr, weight_decay=weight_decay, momentum=0.9)

    return {
        "ResNet50, ImageNet": Schedule.step_decay(sgd(0.1), 90, [30, 60, 80]).in_epochs(5005),
        "Mask R-CNN, COCO": Schedule.step_decay(sgd(0.02), 360_000, [300_000, 340_000]),
    }


def forecasts() -> str:
    """One table for all of them."""
    rows = [
        "| training | stage | lr | steps | Δ* | Δ at its end | needs at least | for 5% | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, plan in published().items():
        rows += _rows(name, forecast(plan))
    return "\n".join(rows)


def _rows(name: str, found: Forecast) -> list[str]:
    rows: list[str] = []
    for number, stage in enumerate(found, start=1):
        assert stage.stage.hp is not None
        ending = "settles"
        if not stage.settles and stage.remedy is not None:
            ending = f"{stage.shortfall:.2f} × below; rescale by {stage.remedy.rescale:.3f}"
        least = f"{stage.steps_at_least:,}" if stage.steps_needed else "–"
        rows.append(
            f"| {name} | {number} | {stage.stage.hp.lr:g} | {stage.stage.steps:,} "
            f"| {stage.equilibrium_angle:.3e} | {stage.angle_end:.3e} "
            f"| {least} | {stage.steps_needed:,} | {ending} |"
        )
    return rows


def panels() -> str:
    """The eight panels of wan2021's figures 3 and 4."""
    path = ROOT / "benchmarks/wan2021_figures.py"
    spec = importlib.util.spec_from_file_location("wan2021_figures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table()


def page(text: str) -> str:
    """`text` with its computed blocks as they should be."""
    for name, block in (("panels", panels()), ("forecasts", forecasts())):
        text = re.sub(
            rf"<!-- {name} -->\n.*?<!-- end -->",
            lambda _, name=name, block=block: f"<!-- {name} -->\n{block}\n<!-- end -->",
            text,
            flags=re.DOTALL,
        )
    return text


if __name__ == "__main__":
    TARGET.write_text(page(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
    print(TARGET)
