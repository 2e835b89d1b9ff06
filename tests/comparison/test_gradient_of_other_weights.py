"""SAM by hand: the gradient is that of weights further up the loss, so it has a radial part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from spherical_motion.comparison import Comparison, compare
from spherical_motion.comparison.ladder.reasons import RadialReason
from spherical_motion.monitor import watch
from spherical_motion.vocabulary import Suspect, Tone, VerdictKind

STEPS = 100


def trained(directory: Path, radius: float, dtype: torch.dtype, *, copied: bool) -> Comparison:
    """Train two layers, with gradients taken `radius` up the loss; the weights are put back."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.LayerNorm(16, eps=1e-12), nn.ReLU(), nn.Linear(16, 4)
    ).to(dtype)
    weights = list(model.parameters())
    optimizer = torch.optim.SGD(weights, lr=0.1, weight_decay=5e-3)
    x, y = torch.randn(STEPS, 32, 12, dtype=dtype), torch.randint(4, (STEPS, 32))

    def backward(step: int) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[step]), y[step]).backward()

    with watch(model, optimizer, x[0], directory, quiet=True):
        for step in range(STEPS):
            backward(step)
            if radius:
                kept = [p.detach().clone() for p in weights]
                norm = torch.stack([p.grad.norm() for p in weights]).norm()
                up = [radius * p.grad / norm for p in weights]
                with torch.no_grad():
                    for p, e in zip(weights, up, strict=True):
                        p += e
                    with torch.enable_grad():
                        backward(step)
                    for p, e, old in zip(weights, up, kept, strict=True):
                        p.copy_(old if copied else p - e)
            optimizer.step()
    return compare(directory)


@pytest.mark.parametrize(
    ("dtype", "copied"),
    [(torch.float32, True), (torch.float64, True), (torch.float64, False)],
    ids=["float32 copied", "float64 copied", "float64 subtracted"],
)
def test_sam_that_leaves_no_trace_in_the_norm_is_no_alarm(dtype, copied, tmp_path: Path) -> None:
    found = trained(tmp_path / "run", 0.1, dtype, copied=copied)
    verdict = next(row.verdict for row in found if row.group == "0")
    assert (verdict.kind, verdict.suspect) == (
        VerdictKind.NOT_SCALE_INVARIANT, Suspect.RADIAL_PART,
    )  # fmt: skip
    assert (verdict.alarm, verdict.tone) == (False, Tone.CAUTION)
    assert verdict.evidence["radial_share"] < -0.1
    assert verdict.has_reason(RadialReason.RADIAL_OUTWARD)
    assert not found.alarms


def test_without_sam_the_gradient_has_no_such_part(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", 0.0, torch.float64, copied=True)
    verdict = next(row.verdict for row in found if row.group == "0")
    assert verdict.suspect is not Suspect.RADIAL_PART
    assert abs(verdict.evidence["radial_share"]) < 1e-3
