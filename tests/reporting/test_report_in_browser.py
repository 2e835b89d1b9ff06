"""The report in a real browser: no error, no request, nothing executed that a name smuggled in."""

from __future__ import annotations

import numpy as np
import pytest
from browser import CHROMIUM, open_page
from fake_comparison import make_comparison

from spherical_motion.reporting import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on PATH")

READY = "document.documentElement.dataset.readyMs"
SHOWN = "Bokeh.documents[0].get_model_by_name('shown').indices"
EVIL = "</script><img src=x onerror=document.evil=1>"
TIPS = """(() => {
  const found = [];
  const walk = (node) => {
    if (node.shadowRoot) walk(node.shadowRoot);
    for (const child of node.children ?? []) {
      if (child.classList.contains("bk-tooltip-content")) found.push(child.innerText);
      walk(child);
    }
  };
  walk(document.body);
  return found;
})()"""


def click(page, identity):
    page.evaluate(f"document.getElementById('{identity}').click()")


def outside_requests(page):
    return [url for url in page.requests if not url.startswith(("data:", "file:"))]


def draw(page):
    """Wait until the charts show what was asked for."""
    page.settle()
    page.wait_for("Bokeh.documents[0].is_idle")
    page.settle()


def hover(page, x_share, span):
    """Move down the page's charts until a tooltip opens; its text."""
    page.evaluate("document.getElementById('plot').scrollIntoView()")
    draw(page)
    left, top, width = page.evaluate(
        "(({ x, y, width }) => [x, y, width])"
        "(document.getElementById('plot').getBoundingClientRect())"
    )
    for y in np.arange(top + span[0], top + span[1], 2.0):
        page.move_mouse(left + x_share * width, float(y))
        page.settle()
        if tips := page.evaluate(TIPS):
            return tips[0]
    raise AssertionError("no tooltip")


@pytest.mark.timeout(120)
def test_groups_are_shown_hidden_searched_and_hovered(tmp_path):
    comparison = make_comparison(20, points=2_000)
    with open_page(write_report(comparison, tmp_path / "report.html"), height=1_400) as page:
        page.wait_for(READY)
        first = page.evaluate(SHOWN)
        assert len(first) == 8
        click(page, "show-all")
        assert page.evaluate(SHOWN) == list(range(20))
        click(page, "show-first")
        assert page.evaluate(SHOWN) == first
        click(page, "show-none")
        assert page.evaluate(SHOWN) == []
        draw(page)
        assert all("could not determine" in problem for problem in page.problems)
        page.problems.clear()  # Bokeh's remark that axes of nothing keep a default range
        click(page, "show-next")
        click(page, "show-next")
        assert page.evaluate(SHOWN) == [1]

        page.evaluate(
            "(box => { box.value = 'conv3.17'; box.dispatchEvent(new Event('input')); })"
            "(document.getElementById('search'))"
        )
        click(page, "show-all")
        assert page.evaluate(SHOWN) == [17]
        tip = hover(page, 0.4, (60, 400)).split("\n")
        assert tip[0] == comparison.groups[17]
        step = int(tip[1].removeprefix("step ").replace(",", ""))
        curves = comparison.curves(comparison.groups[17])
        near = np.abs(curves.steps - step) <= 20
        for line, values in ((tip[2], curves.angle), (tip[3], curves.predicted_angle)):
            shown = float(line.split()[1])
            assert values[near].min() * 0.98 < shown < values[near].max() * 1.02

        page.evaluate("document.querySelectorAll('[data-filter=stage]')[2].click()")
        visible = "document.querySelectorAll('#verdicts tbody tr:not([hidden])').length"
        assert page.evaluate(visible) == 20
        page.evaluate("document.querySelectorAll('#verdicts th[data-sort]')[2].click()")
        measured = page.evaluate(
            "Array.from(document.querySelectorAll('#verdicts tbody tr:not([hidden])'),"
            " (row) => parseFloat(row.cells[2].dataset.value))"
        )
        assert measured == sorted(measured)
        assert page.problems == []
        assert outside_requests(page) == []


@pytest.mark.timeout(120)
def test_names_stay_text_in_the_browser(tmp_path):
    comparison = make_comparison([EVIL], points=300)
    logged = comparison.records.scalars["accuracy"]
    comparison.records.scalars = {f"loss {EVIL} @xs $index $$x$$": logged}
    with open_page(write_report(comparison, tmp_path / "report.html"), height=1_400) as page:
        page.wait_for(READY)
        assert hover(page, 0.4, (60, 400)).startswith(EVIL)
        assert EVIL in hover(page, 0.4, (940, 1200))
        assert page.evaluate("document.evil") is None
        assert page.evaluate("document.images.length") == 0
        assert page.problems == []
        assert outside_requests(page) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_single_sample_raises_no_error(tmp_path):
    comparison = make_comparison(2, points=1)
    with open_page(write_report(comparison, tmp_path / "report.html")) as page:
        page.wait_for(READY)
        assert page.problems == []
