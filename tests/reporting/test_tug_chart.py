"""The tug-of-war chart: its parts add up, and the page shows one group at a time."""

from __future__ import annotations

import html
from types import SimpleNamespace

import numpy as np
import pytest
from browser import CHROMIUM, open_page
from fake_comparison import make_comparison
from pulled import pulled_adam, pulled_sgd
from simulated import constant, simulate_sgd

from spherical_motion.comparison import Forces, TugOfWar, compare
from spherical_motion.comparison.force_curves import NO_CURVES
from spherical_motion.reporting import render, write_report
from spherical_motion.reporting.facts import failure_of, left_out, steps_told, tug_to_begin_with
from spherical_motion.reporting.selection import representative_groups
from spherical_motion.reporting.tug_chart import (
    AREAS,
    columns_of,
    draw_tug,
    label_of,
    picture_range,
    unit_of,
)

SETTINGS = constant(0.05, 0.004, 0.9, 600) + constant(0.01, 0.004, 0.9, 600)
PULLS = {"body": 0.002, "head<b>": -0.003}


@pytest.fixture
def comparison(write_run):
    products = {name: pulled_sgd(SETTINGS, kappa, norm0=2.0) for name, kappa in PULLS.items()}
    return compare(write_run(products, SETTINGS, kind="plain"))


@pytest.fixture
def written(write_run):
    """Weights that lose 1 in 1,000 of their length after each step, by other hands, from 300 on."""

    def shrink(step, w):
        if step >= 300:
            w *= 0.999

    settings = constant(0.05, 0.004, 0.9, 600)
    products = simulate_sgd(settings, norm0=2.0, tamper=shrink)
    # A write between two steps is no part of either.
    lawful = simulate_sgd(settings[:300], norm0=2.0)
    np.testing.assert_array_equal(products[:300], lawful)
    products[300:, 1:3] = between_steps(products[300:])
    return compare(write_run({"body": products}, settings, kind="plain"))


def drawn(curves, span):
    return {name: v.astype(np.float64) for name, v in columns_of(curves, 100.0 * span).items()}


def test_what_is_drawn_are_the_numbers_and_the_areas_add_up_to_the_growth(comparison) -> None:
    for name in PULLS:
        curves = comparison.forces(name)
        columns = drawn(curves, 1_000)
        for part, sign in (("turning", 1), ("loss", -1), ("decay", -1), ("growth", 1)):
            numbers = 1e5 * sign * getattr(curves, part)
            np.testing.assert_allclose(columns[part], numbers, rtol=1e-6)
        growth = columns["growth"]
        np.testing.assert_allclose(
            columns["turning"] + columns["loss"] + columns["decay"], growth, atol=1e-3
        )
        np.testing.assert_allclose(columns["both_out"] + columns["turned_in"], growth, atol=1e-3)
        for low, high, _ in AREAS:
            assert (np.abs(columns[high]) >= np.abs(columns[low]) - 1e-3).all()
        assert not curves.failed.any()


def test_picture_and_words_agree(write_run) -> None:
    settings = constant(0.05, 0.004, 0.9, 1_200)
    comparison = compare(write_run({"w": pulled_sgd(settings, -0.001)}, settings, kind="plain"))
    curves, row = comparison.forces("w"), comparison["w"]
    ((start, stop),) = steps_told(comparison, [curves])
    assert (stop - start + 1, stop) == (row.tug.window, 1_199)
    inside = curves.first >= start
    for part in ("decay", "loss", "inward", "turning", "growth"):
        seen, said = getattr(curves, part)[inside].mean(), getattr(row.tug.forces, part)
        largest = abs(row.tug.forces.turning)
        assert abs(seen - said) < 0.1 * largest, part
    assert curves.decay == pytest.approx(0.05 * 0.004 / 0.1)


def test_the_line_is_the_growth_of_the_norm(comparison, written) -> None:
    for run, name in ((comparison, "body"), (comparison, "head<b>"), (written, "body")):
        curves, records = run.forces(name), run.records
        norm = records.norm()[:, records.index(name)]
        ends = np.append(curves.first[1:], records.steps[-1]).astype(int)
        grown = np.log(norm[ends] / norm[curves.first.astype(int)])
        steps = curves.last - curves.first + 1
        # A write before the first step of a window belongs to that step.
        np.testing.assert_allclose(curves.growth * steps, grown, atol=2.5e-3)


def test_steps_in_which_the_parts_do_not_add_up_are_marked(written) -> None:
    curves = written.forces("body")
    assert (curves.failed == (curves.last > 330)).all()
    (span,) = curves.spans(curves.failed)
    assert span[1] == 599
    np.testing.assert_allclose(curves.missing[curves.first > 300], -1e-3, rtol=0.02)
    said = failure_of(curves)
    assert f"({span[0]:,} to 599)" in said
    assert html.escape(said) in render(written)


def test_spans_join_neighbours_only(comparison) -> None:
    curves = comparison.forces("body")
    chosen = np.zeros(curves.steps.size, bool)
    chosen[[0, 1, 4]] = True
    first, last = curves.first, curves.last
    assert curves.spans(chosen) == [(first[0], last[1]), (first[4], last[4])]
    assert curves.spans(~chosen | chosen) == [(0, 1199)]
    assert curves.spans(chosen & ~chosen) == []


def test_the_picture_holds_all_but_the_start_and_what_is_rare(comparison) -> None:
    stages = comparison.stages("body")
    curves = comparison.forces("body")
    assert curves.early.tolist() == [
        stage.start <= step < stage.start + 50
        for stage, step in ((s, c) for s in stages for c in middles(curves, s))
    ]
    columns = drawn(curves, 100)
    columns["outer"][0] = 1e6
    low, high = picture_range(columns, curves, stages, by_rate=False)
    late = ~curves.early
    assert high >= columns["outer"][late].max()
    assert low <= columns["inner"][late].min()
    assert high < 10 * columns["outer"][late].max()
    assert min(high, -low) >= 0.14 * (high - low)
    # A rare value is left out even later, and a whole stage never is.
    quiet = {"outer": np.where(curves.first >= 600, 1.0, 50.0), "inner": columns["inner"] * 0}
    assert picture_range(quiet, curves, stages, by_rate=False)[1] >= 50.0
    rare = {"outer": np.ones_like(curves.steps), "inner": columns["inner"] * 0}
    rare["outer"][3] = 500.0
    assert picture_range(rare, curves, stages, by_rate=False)[1] < 5.0


def test_the_chart_opens_on_the_group_in_which_the_loss_counts_most(comparison) -> None:
    def opened(**forces):
        rows = [SimpleNamespace(group=n, tug=TugOfWar(forces=f)) for n, f in forces.items()]
        run = SimpleNamespace(groups=tuple(forces), rows=rows)
        return tug_to_begin_with(run, [comparison.forces("body")] * len(forces))

    even = Forces(decay=1e-4, loss=0.0)
    assert opened(a=even) == (0, "")
    assert opened(a=even, b=even) == (0, "Shown first: a, the first group with a chart.")
    index, why = opened(a=even, b=Forces(decay=1e-4, loss=-6e-5))
    assert (index, "(60%)" in why) == (1, True)
    index, why = opened(a=even, b=Forces(decay=1e-4, loss=3.1e-4))
    assert (index, "pulls 3.1 times as hard" in why) == (1, True)
    index, why = opened(a=Forces(decay=1e-9, loss=-1.0), b=Forces(decay=1e-9, loss=-2.0))
    assert (index, "many times as hard" in why) == (0, True)
    assert tug_to_begin_with(comparison, [NO_CURVES, comparison.forces("body")]) == (
        1,
        "Shown first: head<b>, where the loss cancels more of weight decay than elsewhere (75%). "
        "1 of 2 groups have a chart.",
    )


def test_groups_that_are_left_out_are_counted() -> None:
    assert left_out(8, 8) == ""
    assert left_out(8, 9).startswith("1 group is left out at first")
    many = make_comparison(30, points=60)
    shown = representative_groups(many)
    assert left_out(len(shown), 30).startswith(f"{30 - len(shown)} groups are left out at first")
    assert left_out(len(shown), 30) in render(many)
    assert "left out" not in render(make_comparison(8, points=60))


def middles(curves, stage):
    inside = (curves.first >= stage.start) & (curves.last < stage.stop)
    return ((curves.first + curves.last + 1) // 2)[inside]


def between_steps(products):
    """<w, d> and |d|² of steps that were followed by a factor .999, without that factor."""
    ww, wd, dd = products[:, 0], products[:, 1], products[:, 2]
    w_after, after = (ww + wd) / 0.999, (ww + 2 * wd + dd) / 0.999**2
    return np.stack([w_after - ww, after - 2 * w_after + ww], axis=1)


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
    columns = columns_of(curves, 1.0)
    np.testing.assert_allclose(columns["both_in"], -curves.inward, rtol=1e-6)
    assert "decay and loss together" in render(comparison)


def test_a_run_without_the_law_has_no_chart(write_run) -> None:
    told = {"class": "Lion", "betas": [0.9, 0.99]}
    products = {"head": pulled_sgd(SETTINGS)}
    comparison = compare(write_run(products, SETTINGS, optimizer=told, kind="plain"))
    assert comparison.forces("head").steps.size == 0
    page = render(comparison)
    assert 'id="tug"' not in page


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
        axis = page.evaluate(f"{own}('tug_axis').axis_label")
        assert axis == f"in ← % of |w| per {comparison.span:,} steps → out"
        assert f"per {comparison.span:,} steps" in page.evaluate(words)
        page.evaluate("document.querySelector('[data-tug=lr]').click()")
        decay = page.evaluate(f"Array.from({own}('tug').data.decay)")
        assert max(decay) == pytest.approx(min(decay), rel=0.05)  # the same pull at either rate
        page.evaluate(
            "Bokeh.documents[0].get_model_by_name('steps').setv({ start: 100, end: 200 })"
        )
        assert page.evaluate(f"{own}('steps').end") == 200
        assert page.problems == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on PATH")
@pytest.mark.timeout(120)
def test_the_browser_marks_what_leaves_the_picture_and_where_the_law_failed(
    written, tmp_path
) -> None:
    with open_page(write_report(written, tmp_path / "report.html"), height=2_200) as page:
        page.wait_for("Bokeh.documents.length > 1")
        own = "Bokeh.documents[1].get_model_by_name"
        page.wait_for(f"{own}('tug_failed').data.x0.length")
        curves = written.forces("body")
        (span,) = curves.spans(curves.failed)
        hatched = page.evaluate(f"[{own}('tug_failed').data.x0[0], {own}('tug_failed').data.x1[0]]")
        assert tuple(hatched) == span
        said = page.evaluate("document.getElementById('tug-failed').textContent")
        assert said == failure_of(curves)
        low, high = page.evaluate(f"[{own}('tug_range').start, {own}('tug_range').end]")
        unit = unit_of(curves, written.stages("body"), written.span)
        assert page.evaluate(f"{own}('tug_axis').axis_label") == label_of(unit)
        columns = drawn(curves, unit)
        marks = page.evaluate(f"{own}('tug_marks').data")
        beyond = [columns["outer"].max() > high, columns["inner"].min() < low]
        assert [side in marks["side"] for side in ("top", "bottom")] == beyond
        assert any(beyond)
        for text, side in zip(marks["text"], marks["side"], strict=True):
            number = float(text[1:].replace("−", "-").strip(" %").replace(",", ""))
            edge = columns["outer"].max() if side == "top" else columns["inner"].min()
            assert number == pytest.approx(edge, rel=0.05)
        assert page.problems == []


def stopped_at(write_run, stop, again=10**9, steps=1_200):
    settings = constant(0.05, 0.004, 0.9, steps)
    skips = {"skips": lambda step: stop <= step < again}
    return compare(write_run({"w": pulled_sgd(settings, -0.001, **skips)}, settings, kind="plain"))


def test_the_sentence_and_its_shade_are_of_the_steps_before_the_gradient_stopped(write_run) -> None:
    comparison = stopped_at(write_run, 800)
    row = comparison["w"]
    (told,) = steps_told(comparison, [comparison.forces("w")])
    assert told == (800 - row.tug.window, 799)


@pytest.mark.parametrize("again", [1_200, 1_000, 900])
def test_the_parts_end_where_the_gradient_stops(write_run, again) -> None:
    curves = stopped_at(write_run, 800, again).forces("w")
    resting = (curves.first >= 800) & (curves.last < again)
    assert resting.sum() >= 1
    for part in ("decay", "loss", "turning", "growth"):
        assert (getattr(curves, part)[resting] == 0.0).all()
    assert curves.decay[~resting] == pytest.approx(0.05 * 0.004 / 0.1)
    # No window lies on both sides, and each is drawn up to the step at which it ends.
    edge = np.flatnonzero(resting)[0]
    assert curves.steps[edge - 1 : edge + 1].tolist() == [799, 800]
    if again < 1_200:
        edge = np.flatnonzero(resting)[-1]
        assert curves.steps[edge : edge + 2].tolist() == [again - 1, again]


def test_steps_without_a_gradient_now_and_then_do_not_cut_the_windows(write_run) -> None:
    settings = constant(0.05, 0.004, 0.9, 1_200)
    products = pulled_sgd(settings, -0.001, skips=lambda step: step % 3 == 0)
    curves = compare(write_run({"w": products}, settings, kind="plain")).forces("w")
    assert curves.steps.size == 14
    assert curves.decay[1:] == pytest.approx(0.05 * 0.004 / 0.1 * 2 / 3, rel=0.03)


def test_the_picture_of_each_group_stays_within_all_of_its_norm(write_run) -> None:
    cosine = [(0.025 * (1 + np.cos(np.pi * t / 1_200)), 0.004, 0.9) for t in range(1_200)]
    products = {"quiet": pulled_sgd(cosine, norm0=8.0), "loud": pulled_sgd(cosine, 0.4)}
    comparison = compare(write_run(products, cosine, kind="plain"))
    assert comparison.span == 100
    curves = [comparison.forces(name) for name in products]
    stages = comparison.stages("loud")
    units = [unit_of(c, stages, comparison.span) for c in curves]
    assert units == [100, 1]
    for curve, unit in zip(curves, units, strict=True):
        low, high = picture_range(columns_of(curve, 100.0 * unit), curve, stages, by_rate=False)
        assert max(high, -low) <= 108
        assert 10 * max(high, -low) > 100 or unit == comparison.span
    chart = draw_tug(curves, 1, (0, 1_199), stages, comparison.span, [None, None])
    every = chart.tags[0].data
    assert every["label"] == [label_of(100), label_of(1)]
    assert chart.yaxis[0].axis_label == "in ← % of |w| per step → out"
