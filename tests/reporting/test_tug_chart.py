"""The tug-of-war chart: its parts add up, and the page shows one group at a time."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest
from browser import CHROMIUM, open_page
from pulled import pulled_adam, pulled_sgd
from simulated import constant

from spherical_motion.comparison import compare
from spherical_motion.reporting import render, write_report
from spherical_motion.reporting.tug_chart import AREAS, _columns, run_span

SETTINGS = constant(0.05, 0.004, 0.9, 600) + constant(0.01, 0.004, 0.9, 600)
PULLS = {"body": 0.002, "head<b>": -0.003}


@pytest.fixture
def comparison(write_run):
    products = {name: pulled_sgd(SETTINGS, kappa, norm0=2.0) for name, kappa in PULLS.items()}
    return compare(write_run(products, SETTINGS, kind="plain"))


def test_the_areas_add_up_to_the_growth(comparison) -> None:
    for name in PULLS:
        columns = {
            k: v.astype(np.float64) for k, v in _columns(comparison.forces(name), 1e6).items()
        }
        parts = columns["turning"] + columns["loss"] + columns["decay"]
        np.testing.assert_allclose(parts, columns["growth"], atol=1e-4)
        above, below = columns["both_out"], columns["both_in"]
        np.testing.assert_allclose(above + below, columns["growth"], atol=1e-4)
        for low, high, _ in AREAS:
            assert (np.abs(columns[high]) >= np.abs(columns[low]) - 1e-3).all()


def test_the_loss_is_drawn_on_the_side_to_which_it_pulls(comparison) -> None:
    inward, outward = (comparison.forces(name) for name in PULLS)
    assert (inward.loss > 0).all()
    assert (outward.loss < 0).all()
    np.testing.assert_allclose(inward.loss / inward.decay, 0.5, rtol=1e-9)
    # The rates fall with the learning rate, at the step at which it falls.
    edge = np.searchsorted(inward.steps, 599.5)
    assert inward.steps[edge - 1 : edge + 1].tolist() == [599, 600]
    assert inward.decay[-1] == pytest.approx(inward.decay[0] / 5, rel=0.05)


def test_decay_and_loss_that_cannot_be_told_apart_are_one_part(write_run) -> None:
    settings = constant(1e-2, 0.05, 0.9, 400)
    told = {"class": "Adam", "betas": [0.9, 0.99]}
    products = {"head": pulled_adam(settings, 0.05, decoupled=False)[:, :7]}
    comparison = compare(write_run(products, settings, optimizer=told, kind="plain"))
    curves = comparison.forces("head")
    assert np.isnan(curves.decay).all()
    assert np.isnan(curves.loss).all()
    assert (curves.inward > 0).all()
    columns = _columns(curves, 1.0)
    np.testing.assert_allclose(columns["both_in"], -curves.inward, rtol=1e-6)
    assert "decay and loss together" in render(comparison)


def test_a_run_without_the_law_has_no_chart(write_run) -> None:
    told = {"class": "Lion", "betas": [0.9, 0.99]}
    products = {"head": pulled_sgd(SETTINGS)}
    comparison = compare(write_run(products, SETTINGS, optimizer=told, kind="plain"))
    assert comparison.forces("head").steps.size == 0
    page = render(comparison)
    assert 'id="tug"' not in page
    assert run_span([comparison.forces("head")]) == 1_000_000


def test_the_page_has_a_sentence_for_every_group(comparison) -> None:
    page = render(comparison)
    assert "head&lt;b&gt;" in page
    assert "head<b>" not in page.partition("<body>")[2].partition('<script type="application')[0]
    for name in PULLS:
        assert html.escape(comparison[name].words) in page
    assert "75% of your decay is cancelled" in comparison["head<b>"].words


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on PATH")
@pytest.mark.timeout(120)
def test_another_group_is_chosen_and_the_steps_move_together(comparison, tmp_path) -> None:
    with open_page(write_report(comparison, tmp_path / "report.html"), height=2_200) as page:
        page.wait_for("Bokeh.documents.length > 1")
        own = "Bokeh.documents[1].get_model_by_name"
        grown = f"Array.from({own}('tug').data.growth)"
        words = "document.getElementById('tug-words').textContent"
        assert (
            page.evaluate(words) == f"Stage 2: {comparison['head<b>'].words}"
        )  # where the loss pulls most
        first = page.evaluate(grown)
        page.evaluate(
            "(() => { const s = document.getElementById('tug-group'); s.selectedIndex = 0;"
            " s.dispatchEvent(new Event('change')); })()"
        )
        assert page.evaluate(words) == f"Stage 2: {comparison['body'].words}"
        assert page.evaluate(grown) != first
        assert (
            json.dumps(page.evaluate(f"{own}('tug_axis').axis_label")) == '"% of |w| per 100 steps"'
        )
        page.evaluate("document.querySelector('[data-tug=lr]').click()")
        decay = page.evaluate(f"Array.from({own}('tug').data.decay)")
        assert max(decay) == pytest.approx(min(decay), rel=0.05)  # the same pull at either rate
        page.evaluate(
            "Bokeh.documents[0].get_model_by_name('steps').setv({ start: 100, end: 200 })"
        )
        assert page.evaluate(f"{own}('steps').end") == 200
        assert page.problems == []
