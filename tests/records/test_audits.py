"""The tables of audited steps: written, read, undone by a resume, damaged, and not there."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from given import give

from spherical_motion.records import AUDIT_SUMS, RunInfo, RunWriter, read
from spherical_motion.records.files.segments import FAN_IN
from spherical_motion.records.packing import pack_plan
from spherical_motion.vocabulary import HyperParameters, Schedule

WIDTH = len(AUDIT_SUMS)


def audit(writer: RunWriter, steps, value=1.0, parameters=(0, 1, 2)) -> None:
    for step in steps:
        sums = value + np.arange(WIDTH) + 100.0 * step + np.zeros((len(parameters), 1))
        writer.audit(step, np.array(parameters), sums)
        writer.audit_step(step, 0, step + 1.0, np.nan, value, "closure" if step == 3 else "")


def test_what_is_written_is_read(tmp_path, info, rng):
    sums = rng.normal(size=(3, WIDTH))
    sums[1, 5] = np.nan
    with RunWriter(tmp_path, info) as writer:
        writer.audit(7, [2, 0, 1], sums)
        sums[:] = 0.0  # the writer has copied it
        writer.audit_step(7, 1, 8, 8, 0.5, "sparse gradient")
    expected = np.random.default_rng(20240).normal(size=(3, WIDTH))
    expected[1, 5] = np.nan
    records = read(tmp_path)
    assert records.info.parameters == ("conv.weight", "fc.weight", "fc.bias")
    for row, parameter in enumerate([2, 0, 1]):
        own = records.audits.of(parameter)
        assert own.step.tolist() == [7]
        assert own.parameter.tolist() == [parameter]
        found = [getattr(own, name)[0] for name in AUDIT_SUMS]
        np.testing.assert_array_equal(found, expected[row])
    steps = records.audit_steps.of(1)
    assert (steps.counter[0], steps.taken[0], steps.grad_norm[0]) == (8.0, 8.0, 0.5)
    assert steps.skipped.tolist() == ["sparse gradient"]
    assert len(records.audit_steps.of(0)) == 0


def test_a_run_without_an_audit_reads_as_empty(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, [(0.1, 0.1, 0.9, None)] * 2)
        writer.rows(0, np.ones((3, 6)))
    assert not (tmp_path / "audit").exists()
    assert not (tmp_path / "audit_steps").exists()
    records = read(tmp_path)
    assert len(records.audits) == len(records.audit_steps) == 0
    assert records.audits.ww.dtype == np.float64
    assert records.audits.of(1).step.shape == (0,)


def test_a_resume_undoes_what_lies_after_it(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        audit(writer, [0, 1, 3, 90, 1000])
    with RunWriter(tmp_path, info, resume=True, first_step=50) as writer:
        audit(writer, [50, 51], value=2.0, parameters=(0, 1))
    records = read(tmp_path)
    for parameter in (0, 1):
        assert records.audits.of(parameter).step.tolist() == [0, 1, 3, 50, 51]
        assert records.audits.of(parameter).ww[-1] == 2.0 + 100.0 * 51
    assert records.audits.of(2).step.tolist() == [0, 1, 3]  # no later row speaks of it
    assert records.audit_steps.of(0).step.tolist() == [0, 1, 3, 50, 51]
    assert records.audit_steps.of(0).skipped.tolist() == ["", "", "closure", "", ""]


@pytest.mark.parametrize("table", ["audit", "audit_steps"])
def test_a_damaged_part_is_left_out_with_a_notice(tmp_path, info, caplog, table):
    with RunWriter(tmp_path, info) as writer:
        audit(writer, [0])
        writer.flush()
        audit(writer, [1])
        writer.rows(0, np.ones((3, 6)))
    damaged, _ = sorted((tmp_path / table).iterdir())
    whole = bytearray(damaged.read_bytes())
    whole[200] ^= 4
    damaged.write_bytes(whole)
    records = read(tmp_path)
    sound = len(records.rows["step"])
    lengths = len(records.audits.of(0)), len(records.audit_steps.of(0))
    assert sound == 3
    assert sorted(lengths) == [1, 2]
    assert lengths[0 if table == "audit" else 1] == 1
    (notice,) = caplog.messages
    assert f"{tmp_path} is damaged: {table}/{damaged.name} (" in notice
    assert "What it holds is left out." in notice


def test_a_column_of_a_later_version_is_nan_in_an_earlier_part(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        audit(writer, [0])
    (part,) = (tmp_path / "audit").iterdir()
    table = pq.read_table(part).drop_columns("epsilon")
    part.unlink()
    pq.write_table(table.append_column("weather", [["fair"] * len(table)]), part)
    audits = read(tmp_path).audits
    assert np.isnan(audits.epsilon).all()
    assert audits.ww.tolist() == [1.0] * 3


def test_parts_are_merged(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        for step in range(FAN_IN + 1):
            audit(writer, [step])
            writer.flush()
    assert len([*(tmp_path / "audit").iterdir()]) == 2
    assert read(tmp_path).audits.of(1).step.tolist() == [*range(FAN_IN + 1)]
    assert len(read(tmp_path).audit_steps) == FAN_IN + 1


@pytest.mark.parametrize(
    ("parameters", "sums"),
    [([3], np.ones((1, WIDTH))), ([0], np.ones((1, WIDTH - 1))), ([[0]], np.ones((1, WIDTH)))],
)
def test_a_mistake_stops_recording_not_training(tmp_path, info, parameters, sums):
    writer = RunWriter(tmp_path, info)
    with pytest.warns(match="was given"):
        writer.audit(0, parameters, sums)
    writer.close()


def test_a_plan_is_kept(tmp_path, make_info):
    hp = HyperParameters("adamw", lr=1e-3, weight_decay=0.1, momentum=0.9, beta2=0.95)
    plan = Schedule.warmup_stable_decay(hp, steps=1000, warmup=100, decay=200)
    info = make_info(plan=pack_plan(plan))
    assert RunInfo.from_json(info.to_json()) == info
    RunWriter(tmp_path, info).close()
    planned = read(tmp_path).info.planned
    assert planned is not None
    assert planned.hp == hp
    np.testing.assert_array_equal(planned.lr, plan.lr)
    # A resume without a plan keeps it, a resume with another replaces it.
    RunWriter(tmp_path, make_info(), resume=True).close()
    assert read(tmp_path).info.plan == info.plan
    other = make_info(plan=pack_plan(Schedule.cosine(hp, 10)))
    RunWriter(tmp_path, other, resume=True).close()
    assert read(tmp_path).info.plan == other.plan


def test_a_run_without_a_plan_has_none(info):
    assert info.planned is None
    assert "plan" not in json.loads(info.to_json())
