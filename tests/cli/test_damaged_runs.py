"""What the commands say of a run with damaged files."""

from __future__ import annotations

import shutil

import pytest
from full_run import part_of, write_full_run


@pytest.mark.parametrize("command", ["compare", "report", "audit"])
def test_a_command_names_what_it_could_not_read_once(smd, tmp_path, caplog, command):
    run = write_full_run(tmp_path / "run")
    for table in ("records", "audit"):
        part_of(run, table, 1).write_bytes(b"PAR1")
    code, out, _ = smd(command, run)
    assert code in (0, 1)
    assert out
    (notice,) = caplog.messages  # Python shows it on stderr
    assert f"{run} is damaged" in notice
    for table in ("records", "audit"):
        assert notice.count(f"{table}/part-00000001-00000001.parquet") == 1


@pytest.mark.parametrize(
    ("command", "table", "says"),
    [
        (
            "compare",
            "records",
            "Nothing can be judged, because data were lost: records/ is missing",
        ),
        (
            "compare",
            "settings",
            "Nothing can be judged, because data were lost: settings/ is missing",
        ),
        ("report", "records", "report.html"),
        ("report", "settings", "report.html"),
        ("audit", "audit", "the audited steps were lost: audit/ is missing"),
    ],
)
def test_a_command_that_lost_data_leave_nothing_exits_with_2(smd, tmp_path, command, table, says):
    run = write_full_run(tmp_path / "run")
    shutil.rmtree(run / table)
    code, out, _ = smd(command, run)
    assert code == 2
    assert says in out
    assert "recorded yet" not in out
    assert "no step was audited" not in out
    if command == "report":
        text = (run / "report.html").read_text()
        assert "because data were lost" in text
        assert "recorded yet" not in text
