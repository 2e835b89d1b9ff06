"""The writer: what it stores, whom it lets in, and that training never feels it."""

from __future__ import annotations

import errno
import json
import os
import threading
import time

import numpy as np
import pytest
from given import give

from spherical_motion.errors import (
    InvalidArgument,
    NotARun,
    RunDirectoryError,
    RunExists,
    RunInUse,
)
from spherical_motion.records import BYTES_PER_ROW, RunInfo, RunWriter, bytes_per_row, read
from spherical_motion.vocabulary import InvariantGroup, Slice

HOUR = 3600.0


@pytest.fixture
def gram(rng):
    """Six products of three slices."""
    return rng.normal(size=(3, 6))


def test_what_is_recorded_is_what_is_read(tmp_path, info, settings, rng):
    grams = rng.normal(size=(5, 3, 6))
    with RunWriter(tmp_path / "deep" / "run", info) as writer:
        assert writer.next_step == 0
        give(writer, 0, settings)
        for step, gram in enumerate(grams):
            writer.rows(step, gram)
        writer.scalars(4, {"loss": 0.25, "accuracy": np.float32(0.5)})
        writer.event("rescaled", step=3, factor=np.float64(0.5), worst=float("nan"))
    records = read(tmp_path / "deep" / "run")
    np.testing.assert_array_equal(records.slice_gram.to_array(), grams)
    np.testing.assert_array_equal(records.lr, np.full((5, 2), 0.1))
    assert np.isnan(records.beta2).all()
    assert records.info == info
    (event,) = records.events
    assert event["kind"], event["step"] == ("rescaled", 3)
    assert (event["factor"], event["worst"]) == (0.5, None)
    assert records.scalars["loss"].values.tolist() == [0.25]
    assert records.scalars["accuracy"].steps.tolist() == [4]


def test_input_is_copied(tmp_path, info, settings, gram):
    kept = gram.copy()
    with RunWriter(tmp_path, info) as writer:
        give(writer, 0, settings)
        writer.rows(0, gram)
        gram[:] = 0
        settings[:] = 0
    np.testing.assert_array_equal(read(tmp_path).slice_gram.to_array()[0], kept)
    assert read(tmp_path).lr[0, 0] == 0.1


def test_some_slices_may_be_left_out(tmp_path, info, gram):
    with RunWriter(tmp_path, info) as writer:
        writer.rows(0, gram[:2], slices=[2, 0])
    recorded = read(tmp_path).slice_gram.to_array()[0]
    np.testing.assert_array_equal(recorded[[2, 0]], gram[:2])
    assert np.isnan(recorded[1]).all()


def test_scalars_are_read_on_the_writers_thread_and_bad_ones_named_once(tmp_path, info):
    threads = []

    class Late:
        def item(self):
            threads.append(threading.current_thread())
            return 2.0

    with RunWriter(tmp_path, info) as writer:
        for step in range(3):
            writer.scalars(step, {"late": Late(), "text": "high", "many": np.zeros(2)})
    records = read(tmp_path)
    assert list(records.scalars) == ["late"]
    assert threading.current_thread() not in threads
    assert [(e["kind"], e["step"], e["name"]) for e in records.events] == [
        ("skipped", 0, "text"),
        ("skipped", 0, "many"),
    ]


def test_rows_wait_for_neither_time_nor_close_when_there_are_many(tmp_path, info, gram):
    with RunWriter(tmp_path, info, flush_seconds=HOUR, flush_bytes=1000) as writer:
        for step in range(10):
            writer.rows(step, gram)
        deadline = time.monotonic() + 30
        while len(read(tmp_path).steps) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
            writer.rows(9, gram)
        assert read(tmp_path).steps.tolist() == list(range(10))


def test_time_alone_flushes(tmp_path, info, gram):
    with RunWriter(tmp_path, info, flush_seconds=0.02) as writer:
        writer.rows(0, gram)
        deadline = time.monotonic() + 30
        while not len(read(tmp_path).steps) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read(tmp_path).steps.tolist() == [0]


def test_resume_appends_and_the_later_row_wins(tmp_path, make_info, rng):
    first, second = rng.normal(size=(4, 3, 6)), rng.normal(size=(3, 3, 6))
    with RunWriter(tmp_path, make_info()) as writer:
        for step, gram in enumerate(first):
            writer.rows(step, gram)
    # A new start may measure another defect and set another rate.
    lower = [dict(group, lr=0.01, initial_lr=0.1) for group in make_info().param_groups]
    with RunWriter(tmp_path, make_info(param_groups=tuple(lower)), resume=True) as writer:
        assert writer.next_step == 4
        for step, gram in enumerate(second, start=2):  # from an earlier checkpoint
            writer.rows(step, gram)
    records = read(tmp_path)
    assert records.steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(
        records.slice_gram.to_array(), np.concatenate([first[:2], second])
    )
    (event,) = records.events
    assert (event["kind"], event["step"]) == ("resumed", 4)
    assert event["param_groups"][0]["lr"] == 0.01


def test_a_torn_event_is_cut_off_when_the_run_is_resumed(tmp_path, info):
    with RunWriter(tmp_path, info) as writer:
        writer.event("one")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"time": "2024-')
    assert [e["kind"] for e in read(tmp_path).events] == ["one"]
    with RunWriter(tmp_path, info, resume=True) as writer:
        writer.event("two")
    assert [e["kind"] for e in read(tmp_path).events] == ["one", "resumed", "two"]


def test_leftovers_of_a_killed_writer_are_ignored_and_then_removed(tmp_path, info):
    RunWriter(tmp_path, info).close()
    leftovers = [tmp_path / "run.json.tmp", tmp_path / "records" / "part-0-0.parquet.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"PAR1")
    assert len(read(tmp_path).steps) == 0
    RunWriter(tmp_path, info, resume=True).close()
    assert not any(leftover.exists() for leftover in leftovers)


# Who may write.


def test_a_run_is_not_begun_over_another(tmp_path, info):
    RunWriter(tmp_path, info).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunExists, match="resume=True"):
        RunWriter(tmp_path, info)
    assert (tmp_path / "run.json").read_bytes() == before


def test_other_files_are_left_alone(tmp_path, info):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunDirectoryError, match=r"found thesis\.tex"):
        RunWriter(tmp_path, info)
    with pytest.raises(NotARun, match=r"found thesis\.tex"):
        RunWriter(tmp_path, info, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_was_killed_halfway_can_be_repeated(tmp_path, info):
    (tmp_path / "run.lock").touch()
    (tmp_path / "records").mkdir()
    (tmp_path / "run.json.tmp").write_text('{"schema')
    RunWriter(tmp_path, info).close()
    assert read(tmp_path).info == info


def test_nothing_to_resume(tmp_path, info):
    with pytest.raises(NotARun, match="no such directory"):
        RunWriter(tmp_path / "absent", info, resume=True)
    assert not (tmp_path / "absent").exists()


def test_a_file_is_no_directory(tmp_path, info):
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        RunWriter(tmp_path / "file", info)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"groups": lambda g: g[:1], "slice_param_group": (0,)}, "group 'fc' .* no longer exists"),
        ({"groups": lambda g: g[::-1]}, "in another order"),
        (
            {
                "groups": lambda g: (
                    *g,
                    InvariantGroup("new", "scale", (Slice("n", 0, 0, 1),), (), 1),
                )
            },
            "did not record group 'new'",
        ),
        (
            {"groups": lambda g: (InvariantGroup("conv", "rescale", g[0].slices, (), 72), g[1])},
            "group 'conv' recorded other",
        ),
        (
            {"param_groups": ({"class": "AdamW", "lr": 0.1},) * 2},
            "optimizer of .*sgd.*is now .*adamw",
        ),
        ({"param_groups": ({"class": "SGD", "lr": 0.1, "nesterov": True},) * 2}, "nesterov=True"),
    ],
)
def test_another_model_or_optimizer_cannot_resume(tmp_path, info, make_info, changes, difference):
    RunWriter(tmp_path, info).close()
    if callable(changes.get("groups")):
        changes = {**changes, "groups": changes["groups"](info.groups)}
    if len(changes.get("groups", ())) > 2:
        changes["slice_param_group"] = (0, 0, 1, 0)
    with pytest.raises(RunDirectoryError, match=difference):
        RunWriter(tmp_path, make_info(**changes), resume=True)
    RunWriter(tmp_path, info, resume=True).close()  # it was let go of


def test_one_writer_at_a_time(tmp_path, info):
    with RunWriter(tmp_path, info):
        for resume in (False, True):
            with pytest.raises(RunInUse, match=f"pid {os.getpid()} on "):
                RunWriter(tmp_path, info, resume=resume)
    RunWriter(tmp_path, info, resume=True).close()


def test_a_file_system_without_locks_is_refused(tmp_path, info, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(RunDirectoryError, match="No locks available"):
        RunWriter(tmp_path, info)


@pytest.mark.parametrize("bad", [{"flush_seconds": 0}, {"flush_bytes": 0}, {"patience": -1}])
def test_arguments_are_checked_before_anything_is_made(tmp_path, info, bad):
    says = r"flush_seconds > 0 and flush_bytes >= 1|patience must be seconds"
    with pytest.raises(InvalidArgument, match=says):
        RunWriter(tmp_path / "run", info, **bad)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("products", [6, 7, 8])
def test_bytes_per_row_foretell_the_size_of_a_run(tmp_path, make_info, rng, products):
    layers, steps = 53, 400
    slices = [Slice(f"layer{i}.weight", 0, 0, 64) for i in range(layers)]
    groups = tuple(InvariantGroup(s.parameter, "scale", (s,), ((s,),), 1) for s in slices)
    info: RunInfo = make_info(groups=groups, slice_param_group=(0,) * layers, products=products)
    ww = np.exp(2 * rng.normal(size=layers) + 1e-4 * rng.normal(size=(steps, layers)).cumsum(0))
    dd = ww * 1e-4 * np.exp(0.3 * rng.normal(size=ww.shape))
    gg = 1e-2 * np.exp(0.5 * rng.normal(size=ww.shape))
    wg = 1e-9 * rng.normal(size=ww.shape)
    dg = -np.sqrt(dd * gg) * rng.uniform(0.1, 1, size=ww.shape)
    wp = ww * 1e-4 * (1 + 0.1 * rng.normal(size=ww.shape))
    ws = ww * 1e-6 * rng.normal(size=ww.shape)
    grams = np.stack([ww, -dd / 2 + 1e-6 * wg, dd, wg, gg, dg, wp, ws], axis=-1)
    cosine = 0.05 * (1 + np.cos(np.linspace(0, np.pi, steps)))
    with RunWriter(tmp_path, info) as writer:
        for step in range(steps):
            writer.settings(step, 0, (cosine[step], 1e-4, 0.9, None))
            writer.rows(step, grams[step, :, :products])
    size = sum(path.stat().st_size for path in (tmp_path / "records").iterdir())
    assert size / (layers * steps) == pytest.approx(bytes_per_row(products), rel=0.05)
    assert bytes_per_row() == BYTES_PER_ROW
    settings = sum(path.stat().st_size for path in (tmp_path / "settings").iterdir())
    assert settings < 20 * steps


def test_run_json_says_its_version(tmp_path, info):
    RunWriter(tmp_path, info).close()
    assert json.loads((tmp_path / "run.json").read_text())["schema_version"] == 2
