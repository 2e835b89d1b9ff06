"""The file: whole, self-contained, safe against any name, and there for any comparison."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_comparison import make_comparison

from spherical_motion import reporting
from spherical_motion.comparison import Comparison
from spherical_motion.errors import InvalidArgument, MissingExtra
from spherical_motion.reporting import render, table_html, write_report

EVIL = "</script><img src=x onerror=alert(1)>"


class Reader(html.parser.HTMLParser):
    """Collects what a browser would see: elements, attributes, scripts and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside and self._inside[-1] == "script":
            self.scripts[-1] += data
        elif not (self._inside and self._inside[-1] == "style"):
            self.text += data


@pytest.fixture(scope="module")
def evil():
    names = (EVIL, "@{name} $index $$x$$", "\"'&<b>", "слой\u2028λ", "model." + "block." * 30 + "w")
    comparison = make_comparison(names, points=200)
    comparison.directory = Path("runs") / "<b>evil<b>"
    comparison.findings = (EVIL, "<script>alert(2)</script>")
    comparison.records.events = ({"kind": EVIL, "step": 3, EVIL: EVIL, "<!--": "<script>"},)
    comparison.records.info.command = EVIL
    comparison.records.info.versions = {EVIL: EVIL}
    comparison.records.scalars[f"loss {EVIL}"] = comparison.records.scalars["accuracy"]
    return comparison


def test_no_name_becomes_markup(evil):
    page = Reader(render(evil))
    plain = Reader(render(make_comparison(5, points=200)))
    assert len(page.scripts) == len(plain.scripts) == 3
    assert {tag for tag, _ in page.elements} - {tag for tag, _ in plain.elements} <= {"br"}
    assert not any(key.startswith("on") for _, attrs in page.elements for key in attrs)
    groups = {
        attrs["data-group"]
        for tag, attrs in page.elements
        if tag == "input" and "data-group" in attrs
    }
    assert groups == set(evil.groups)
    assert EVIL in page.text


def test_notebook_table_escapes_too(evil):
    page = Reader(table_html(evil))
    assert not page.scripts
    assert {tag for tag, _ in page.elements}.isdisjoint({"img", "b", "script"})
    assert EVIL in page.text


def test_policy_admits_exactly_the_scripts_of_the_page():
    page = Reader(render(make_comparison(2, points=60)))
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv")) or ""
    admitted = set(re.findall(r"'sha256-([^']+)'", policy))
    executed = [script for script in page.scripts if not script.startswith("{")]
    assert admitted == {
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in executed
    }
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_no_element_refers_to_anything_outside():
    page = Reader(render(make_comparison(2, points=60)))
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "base"})
    assert not any(key in attrs for _, attrs in page.elements for key in ("src", "href", "action"))


def nowhere(comparison):
    """The same with every curve unknown."""
    for curves in comparison.curves_by_group.values():
        for name in vars(curves):
            if name != "steps":
                getattr(curves, name)[:] = np.nan
    return comparison


@pytest.mark.parametrize(
    "comparison",
    [
        pytest.param(make_comparison(0, points=0, scalars=False), id="no groups"),
        pytest.param(make_comparison(3, points=0, scalars=False), id="nothing recorded"),
        pytest.param(make_comparison(2, points=1), id="one sample"),
        pytest.param(nowhere(make_comparison(2, points=100)), id="all NaN"),
        pytest.param(make_comparison(1, points=100), id="one group"),
        pytest.param(make_comparison(300, points=100), id="300 groups"),
        pytest.param(make_comparison(9, points=100, scalars=False), id="no scalars"),
    ],
)
def test_any_comparison_renders(comparison):
    page = Reader(render(comparison))
    rows = [attrs for tag, attrs in page.elements if tag == "tr" and "data-verdict" in attrs]
    assert len(rows) == len(comparison.rows)
    assert "nan" not in page.text.split()


def test_the_first_words_are_the_findings_and_the_numbers_are_for_people():
    comparison = make_comparison(2, points=200)
    row = comparison.rows[0]
    row.measured, row.predicted, row.ratio, row.interval = 0.043649, 0.0451, 0.9678, (0.951, 0.984)
    row.equilibrium, row.samples = 0.0873, 12345
    text = Reader(render(comparison)).text
    assert text.index(comparison.findings[0]) < text.index("Measured")
    cells = text[text.index(row.group) :].split("\n")[:9]
    for expected in ("0.0436", "0.0451", "0.97", "0.95 … 0.98", "50%", "12,345"):
        assert expected in cells


def test_the_table_shows_the_band_that_was_judged_by():
    comparison = make_comparison(5, points=200)
    assert "grey ±10%" in table_html(comparison)
    comparison.band = 0.2
    assert "grey ±20%" in table_html(comparison)
    assert "grey ±20%" in render(comparison)


def test_events_tell_step_facts_and_time():
    comparison = make_comparison(1, points=60)
    event = {"time": "2026-01-01T00:00:00", "kind": "rescaled", "step": 12345, "factor": 0.5}
    comparison.records.events = (event, {"kind": "resumed", "step": None})
    page = Reader(render(comparison))
    for expected in ("rescaled", "12,345", "factor = 0.5", "2026-01-01T00:00:00", "resumed"):
        assert expected in page.text
    assert page.text.count("None") == 1  # the button that shows no group


def test_long_lists_of_events_are_cut_and_say_so():
    comparison = make_comparison(1, points=60)
    comparison.records.events = tuple({"kind": "skipped", "step": i} for i in range(1_234))
    text = Reader(render(comparison)).text
    assert "1,234 times" in text
    assert "The first 200. All 1,234 are in events.jsonl" in text


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "new" / "report.html"
    comparison = make_comparison(1, points=60)
    assert write_report(comparison, target) == target
    before = target.read_text(encoding="utf-8")
    assert before.startswith("<!doctype html>")
    assert before.rstrip().endswith("</html>")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(make_comparison(2, points=60), target)
    assert target.read_text(encoding="utf-8") == before
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(InvalidArgument, match=r"report\.html"):
        write_report(make_comparison(1, points=60), tmp_path)


@pytest.mark.parametrize("module", ["bokeh", "jinja2"])
def test_a_missing_extra_says_how_to_get_it(monkeypatch, module):
    comparison = make_comparison(1, points=60)
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "spherical_motion.reporting.charts", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'spherical-motion\[report\]'"):
        render(comparison)


def test_importing_needs_neither_the_extra_nor_torch():
    code = (
        "import sys\n"
        "for name in ('bokeh', 'jinja2', 'torch'): sys.modules[name] = None\n"
        "import spherical_motion.reporting"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_notebooks_show_a_comparison_as_the_table():
    assert getattr(Comparison, "_repr_html_") is reporting.table_html  # noqa: B009


def test_a_deep_network_and_a_long_run_stay_within_size_and_time():
    comparison = make_comparison(53, points=90_000)
    start = time.perf_counter()
    page = render(comparison)
    assert time.perf_counter() - start < 10
    assert len(page.encode()) < 5e6
