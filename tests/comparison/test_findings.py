"""What happened to several groups is said once, and nothing of it is lost."""

from __future__ import annotations

import dataclasses

from judged import evidence

from spherical_motion.comparison import Row, judge
from spherical_motion.comparison.findings import findings_of
from spherical_motion.comparison.laws import ScaleChange, Stale
from spherical_motion.comparison.laws.audited import AuditedSteps
from spherical_motion.vocabulary import Stage


def row(name: str, number: int = 1, **changes) -> Row:
    healthy = evidence(**changes)
    stage = healthy.stage
    if number > 1:
        stage = dataclasses.replace(stage, start=1000 * (number - 1), stop=1000 * number)
    verdict = judge(dataclasses.replace(healthy, stage=stage))
    assert isinstance(stage, Stage)
    return Row(name, number, stage, 0.1, 0.1, 1.0, (0.98, 1.02), 0.1, 1000, verdict)


def found(*rows: Row) -> str:
    return "\n".join(findings_of(rows, sorted({row.group for row in rows})))


STALE = Stale(pairs=100, same=50, steps=(1, 3, 5))
JUMP = ScaleChange(step=500, factor=32.0, groups=6, known=6, spread=1e-9)


def test_a_gradient_used_again_is_a_finding_beside_equilibrium() -> None:
    alone = found(row("a", stale=STALE))
    assert "a is in equilibrium" in alone
    assert "a used the gradient of the step before again in 50% of the steps." in alone
    less = dataclasses.replace(STALE, same=25)
    three = found(row("a", stale=STALE), row("b", stale=less), row("c"))
    assert "a and b used the gradient of the step before again in 25% to 50% of the" in three
    assert "both groups used the" in found(row("a", stale=STALE), row("b", stale=STALE))
    old = found(row("a", stale=STALE, radial_share=-0.5, defect=0.3), row("b"))
    assert "a used the gradient of the step before again in 50% of the steps." in old
    assert "used the gradient" not in found(row("a"), row("b"))


def test_a_jump_and_clipping_are_said_in_full_once_and_shortly_in_each_row() -> None:
    clipped = AuditedSteps(steps=22, clipped_at=1.0, clipped_share=0.5)
    rows = [row(name, scale_changes=(JUMP,), audited=clipped) for name in "abc"]
    text = found(*rows)
    assert text.count("as with another loss scale or batch size") == 1
    assert text.count("clipped at 1 in 50% of the audited steps") == 1
    for each in rows:
        assert "× 32 at step 500" in each.verdict.reason
        assert "clipped in 50%" in each.verdict.reason
        assert "as with" not in each.verdict.reason
    alone = found(rows[0])
    assert "× 32 at step 500" in alone
    assert "clipped at 1 in 50%" in alone


def test_layers_without_a_gradient_are_one_alarm_over_all_stages() -> None:
    rows = [row(name, number, moved=False) for name in "abcd" for number in (1, 2)]
    rows += [row("head", 1), row("head", 2)]
    alarms = [line for line in found(*rows).splitlines() if "frozen" in line]
    assert len(alarms) == 1
    assert alarms[0].startswith("Both stages: 4 of 5 groups are frozen (a, b, c and 1 more; no ")
    assert sum(each.alarm for each in rows) == 8
