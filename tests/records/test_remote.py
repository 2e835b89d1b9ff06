"""Runs on other file systems: read like local ones, and said clearly when they cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from full_run import TABLES, part_of, write_full_run

import spherical_motion as smd
from spherical_motion.errors import InvalidArgument, MissingExtra, NotARun, RunDirectoryError
from spherical_motion.records import RunInfo, RunWriter, read, read_info
from spherical_motion.records.reader import steps_at_close


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    return write_full_run(tmp_path_factory.mktemp("remote") / "run")


@pytest.fixture(params=["memory", "file"])
def url(request, local: Path, tmp_path: Path):
    """The run on a file system of fsspec."""
    path = "/copied" if request.param == "memory" else f"{tmp_path}/copied"
    system = fsspec.filesystem(request.param)
    system.put(f"{local}/", path, recursive=True)
    yield f"{request.param}://{path}"
    system.rm(path, recursive=True)


def same(ours, theirs) -> None:
    np.testing.assert_array_equal(ours, theirs)


def test_a_remote_run_is_read_like_a_local_one(url, local):
    remote, here = read(url, strict=True), read(local)
    assert remote.info == here.info == read_info(url)
    assert remote.events == here.events
    same(remote.gram.to_array(), here.gram.to_array())
    same(remote.lr, here.lr)
    same(remote.scalars["loss"].values, here.scalars["loss"].values)
    same(remote.cells("conv").gram.to_array(), here.cells("conv").gram.to_array())
    same(remote.correlations("conv").rho, here.correlations("conv").rho)
    same(remote.audits.ww, here.audits.ww)
    same(remote.select(["fc"]).gram.ww, here.select(["fc"]).gram.ww)
    assert str(remote.directory) == url
    assert steps_at_close(url) == steps_at_close(local)
    assert read(remote.directory).groups == here.groups


def test_a_remote_run_is_compared_audited_and_drawn(url, local, tmp_path):
    assert str(smd.compare(url)) == str(smd.compare(local))
    assert str(smd.audit(url)).splitlines()[1:] == str(smd.audit(local)).splitlines()[1:]
    with pytest.raises(InvalidArgument, match=r"report\(path=\.\.\.\) must be given"):
        smd.report(url)
    page = smd.report(url, tmp_path / "page.html")
    assert "conv" in page.read_text()


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_remote_part_is_named(local, table):
    system = fsspec.filesystem("memory")
    system.put(f"{local}/", "/damaged", recursive=True)
    try:
        name = f"{table}/{part_of(local, table, 1).name}"
        damaged = bytearray(system.cat_file(f"/damaged/{name}"))
        damaged[100] ^= 1
        system.pipe_file(f"/damaged/{name}", bytes(damaged))
        assert [part.name for part in read("memory://damaged").unreadable] == [name]
        with pytest.raises(RunDirectoryError, match=f"memory://damaged/{name} is damaged"):
            read("memory://damaged", strict=True)
    finally:
        system.rm("/damaged", recursive=True)


def test_a_remote_place_without_a_run_is_named():
    with pytest.raises(NotARun, match=r"memory://nowhere holds no run: .* no such directory"):
        read("memory://nowhere")


def test_a_protocol_that_is_not_known_is_named():
    with pytest.raises(InvalidArgument, match=r"read\('moon://a'\) must have a protocol .*moon"):
        read("moon://a")


NO_PATHS = {
    "None": (None, r"as a str or a Path, got None\. Pass its path\."),
    "a number": (3, r"as a str or a Path, got 3\. Pass its path\."),
    "bytes": (b"x", r"as a str or a Path, got b'x'\. Decode it with os\.fsdecode\."),
    "null": ("a\0b", r"'a\\x00b'\) must be a path, and no path holds a null character\. Remove it"),
    "null in a URL": ("memory://a\0b", r"no path holds a null character"),
    "a URL in a Path": (Path("memory://runs/x"), r"URL memory://\.\.\., pass it as a str"),
}


@pytest.mark.parametrize("name", NO_PATHS)
@pytest.mark.parametrize("function", [read, read_info, steps_at_close])
def test_what_is_no_path_is_refused_with_the_remedy(function, name):
    given, message = NO_PATHS[name]
    with pytest.raises(InvalidArgument, match=rf"^{function.__name__}\(.*{message}"):
        function(given)


def test_a_directory_whose_name_ends_in_a_colon_is_read(local, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd:").mkdir()
    Path("odd:/run").symlink_to(local)
    assert read(Path("odd:/run")).info == read(local).info


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra, match=r"s3://bucket/run needs a package .*s3fs"):
        read("s3://bucket/run")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"pip install 'spherical-motion\[remote\]'"):
        read("memory://a")


def test_a_local_run_needs_no_fsspec(local):
    code = "import sys; from spherical_motion.records import read; read(sys.argv[1]).gram; "
    code += "assert 'fsspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(local)], check=True)


def test_a_remote_run_may_be_merged_after_it_was_read(tmp_path):
    """Its products are read from the part that holds its own by then."""
    info = RunInfo.from_json(write_full_run(tmp_path / "full").joinpath("run.json").read_text())
    url = f"file://{tmp_path}/run"
    with RunWriter(tmp_path / "run", info) as writer:
        for step in range(15):
            writer.rows(step, np.full((3, 6), float(step)))
            writer.flush()
        records = read(url)
        writer.rows(15, np.full((3, 6), 15.0))
        for _ in range(2):  # the second one waits until the parts are merged
            writer.flush()
    assert len(list((tmp_path / "run" / "records").iterdir())) == 1
    assert records.steps.tolist() == list(range(15))
    same(records.slice_gram.ww[:, 0], np.arange(15.0))
