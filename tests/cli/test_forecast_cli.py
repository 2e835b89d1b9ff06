"""`smd forecast`, `smd plan` and `smd simulate` as a person at a terminal meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pulled import pulled_sgd
from simulated import constant

from spherical_motion.cli.plotting import Line, line_chart

SGD = ["--lr", "0.1", "--weight-decay", "1e-4", "--momentum", "0.9"]
IMAGENET = [*SGD, "--epochs", "90", "--steps-per-epoch", "5005", "--milestones", "30,60,80"]


def strict(text: str):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_forecast_of_imagenet_names_the_two_stages_that_fall_short(smd) -> None:
    code, out, _ = smd("forecast", *IMAGENET)
    assert code == 1
    assert out.count("settles") == 2
    assert "needs at least 581,130 steps, 1,111,703 to come within 5%, and has 100,100" in out
    assert "2.68 × below" in out
    assert "60–80" in out


def test_a_run_that_is_long_enough_exits_with_zero(smd) -> None:
    code, out, _ = smd("forecast", *SGD, "--steps", 200_000)
    assert code == 0
    assert "Every stage reaches its equilibrium" in out


def test_forecast_speaks_strict_json(smd) -> None:
    code, out, _ = smd("forecast", *IMAGENET, "--json")
    found = strict(out)
    assert code == 1
    assert found["falls_short"] is True
    assert [s["outcome"] for s in found["stages"]] == ["settles"] * 2 + ["falls short"] * 2
    assert found["stages"][2]["remedy"]["rescale"] == pytest.approx(0.559, abs=1e-3)
    assert found["stages"][0]["norm_end"] is None


def test_a_plan_from_a_run_says_whether_it_settles_and_where(smd, write_run) -> None:
    settings = constant(0.1, 1e-4, 0.9, 300)
    products = pulled_sgd(settings, -5e-5, norm0=1.0)
    run = write_run({"head": products}, settings, kind="plain")
    from_run = ["--pull-from", run, "--group", "head"]
    code, out, _ = smd("forecast", *SGD, "--steps", 2000, *from_run)
    text = " ".join(out.split())
    assert code == 1
    assert "where the run ended after step 299" in text
    assert "throughout" not in text
    assert "reaches its equilibrium" not in text
    assert "pull 5e-05" in text
    assert "at norm" in text
    assert "A guess: the pull itself changes with the norm." in text
    code, out, _ = smd("forecast", *SGD, "--steps", 2_000_000, *from_run)
    text = " ".join(out.split())
    assert code == 0
    assert "within 5% of it after" in text
    _, out, _ = smd("forecast", *SGD, "--steps", 2000, *from_run, "--json")
    stage = strict(out)["stages"][0]
    assert stage["norm_start"] < stage["norm_end"] < stage["norm_at_rest"]
    assert stage["guess"] is True


def test_a_start_at_rest_that_is_assumed_is_said_to_be(smd) -> None:
    _, out, _ = smd("forecast", *SGD, "--steps", 20_000, "--pull", "5e-5")
    assert "The start at rest is assumed." in out
    known = ["--norm0", "3", "--unit-grad-sq", "1"]
    _, out, _ = smd("forecast", *SGD, "--steps", 20_000, "--pull", "5e-5", *known)
    assert "assumed" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--schedule", "cosine", "--warmup", "1000"],
        ["--schedule", "polynomial", "--power", "2", "--final-lr", "1e-5"],
        ["--schedule", "exponential", "--final-lr", "1e-4"],
        ["--schedule", "wsd", "--warmup", "1000", "--decay", "3000"],
    ],
)
@pytest.mark.parametrize(
    "optimizer",
    [
        ["sgd"],
        ["sgd", "--nesterov", "--momentum", "0.9"],
        ["adamw"],
        ["lion"],
        ["muon", "--correlation", "39"],
        ["adam", "--numel", "1e4", "--unit-grad-rms", "0.1"],
    ],
)
def test_every_shape_for_every_optimizer(smd, arguments: list[str], optimizer: list[str]) -> None:
    base = ["--lr", "1e-2", "--wd", "1e-2", "--steps", "10000", "--json"]
    _, out, _ = smd("forecast", *base, "--optimizer", *optimizer, *arguments)
    stages = strict(out)["stages"]
    varying = [s for s in stages if s["outcome"] == "varies"]
    assert varying
    assert stages[-1]["stop"] == 10_000
    assert all(s["angle_end"] > 0 for s in stages)


def test_a_table_of_settings_is_a_schedule(smd) -> None:
    Path("plan.csv").write_text("epoch,lr\n0,.1\n30,.01\n60,.001\n80,.0001\n")
    table = ["--csv", "plan.csv", "--epochs", "90", "--steps-per-epoch", "5005"]
    _, by_table, _ = smd("forecast", *SGD, *table, "--json")
    _, by_milestones, _ = smd("forecast", *IMAGENET, "--json")
    for one, other in zip(strict(by_table)["stages"], strict(by_milestones)["stages"], strict=True):
        assert one["angle_end"] == pytest.approx(other["angle_end"], rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Pass either --steps, or --epochs"),
        (["--steps", "100", "--epochs", "3"], "Pass either --steps, or --epochs"),
        (["--epochs", "90"], "--epochs needs --steps-per-epoch"),
        (["--steps", "100", "--milestones", "60,30"], "must increase strictly"),
        (["--steps", "100", "--milestones", "a,b"], "must be numbers like 30,60,80"),
        (["--steps", "100", "--milestones", "50", "--warmup", "60"], "must lie after --warmup"),
        (
            ["--steps", "100", "--schedule", "step"],
            "--schedule step needs --milestones, like 30,60,80, and no other",
        ),
        (
            ["--steps", "100", "--milestones", "50", "--schedule", "cosine"],
            "--schedule step needs --milestones, like 30,60,80, and no other",
        ),
        (["--steps", "100", "--warmup", "100"], "none is left"),
        (["--steps", "100", "--warmup", "nan"], "--warmup must be finite"),
        (["--steps", "0"], "must be an int >= 1, got 0"),
        (["--steps", "100", "--norm0", "3"], "needs unit_grad_sq"),
        (["--steps", "100", "--csv", "none.csv"], "cannot be read"),
        (["--steps", "100", "--optimizer", "muon"], "correlation"),
        (["--steps", "100", "--optimizer", "adam"], "unit_grad_rms"),
    ],
)
def test_a_mistake_is_exit_code_two_and_one_line(smd, arguments, message: str) -> None:
    code, out, err = smd("forecast", *SGD, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("smd: ")
    assert message in err


def test_plan_finds_pairs_and_rules(smd) -> None:
    code, out, _ = smd("plan", "--lr", 0.1, "--momentum", 0.9, "--angle", 3.244e-3)
    assert code == 0
    assert "0.0009997" in out
    batch = ["--batch-factor", 4, "--steps-per-epoch", 5004, "--json"]
    _, out, _ = smd("plan", *SGD, *batch)
    rules = {entry["rule"]: entry for entry in strict(out)}
    assert rules["linear"]["setting"]["angle"] == pytest.approx(6.489e-3, rel=1e-3)
    code, _, err = smd("plan", *SGD)
    assert code == 2
    assert "exactly one of --angle, --time-constant and --batch-factor" in err
    assert smd("plan", *SGD, "--batch-factor", 4)[0] == 2


def test_plan_for_a_time_constant(smd) -> None:
    _, out, _ = smd("plan", "--optimizer", "adamw", "--lr", 1e-3, "--time-constant", 5000, "--json")
    pair = next(s for s in strict(out) if s["lr"] == pytest.approx(1e-3))
    assert pair["weight_decay"] == pytest.approx(0.1)


def test_simulate_draws_and_agrees_with_theory(smd) -> None:
    settings = ["--lr", 0.1, "--wd", 1e-3, "--momentum", 0.9, "--steps", 20_000, "--noise", 3]
    code, out, _ = smd("simulate", *settings, "--html", "norms.html")
    assert code == 0
    assert "at equilibrium (theory)" in out
    assert "⠤" in out
    page = Path("norms.html").read_text()
    assert "at rest (theory)" in page
    assert "<script src=" not in page
    _, out, _ = smd("simulate", *settings, "--json")
    found = strict(out)
    late = np.array(found["norm_sq"])[-200:].mean() / np.array(found["norm_sq_at_rest"])[-200:]
    np.testing.assert_allclose(late, 1.0, rtol=0.02)


def test_simulate_refuses_what_cannot_be(smd) -> None:
    code, _, err = smd("simulate", "--lr", 0.1, "--wd", 1e-3, "--steps", 100, "--noise", 11)
    assert code == 2
    assert "must be >= 0" in err


def test_a_chart_puts_a_curve_where_it_is() -> None:
    x = np.arange(100)
    text = line_chart([Line("rising", x, x.astype(float))], width=20, height=5).plain
    rows = [line.split("│")[-1].split("┤")[-1] for line in text.splitlines()[:5]]
    # A straight line from the lower left corner to the upper right one, and nothing elsewhere.
    columns = [next(i for i, c in enumerate(row) if c != "⠀") for row in rows]
    assert columns == sorted(columns, reverse=True)
    assert rows[-1][0] != "⠀"
    assert rows[0][-1] != "⠀"
    assert "99" in text
    assert "rising" in text


def test_a_chart_survives_gaps_and_stillness() -> None:
    x = np.arange(50)
    still = line_chart([Line("still", x, np.full(50, 3.0))], log=True)
    assert "3" in still.plain
    gap = np.where(x < 25, np.nan, 1.0 * x)
    assert line_chart([Line("gap", x, gap)], width=10, height=3).plain.count("⠀") >= 15
    assert line_chart([Line("none", x, np.full(50, np.nan))]).plain


@pytest.fixture
def doubtful(write_run):
    settings = constant(0.1, 1e-4, 0.9, 600)
    products = pulled_sgd(settings, norm0=1.0, write=lambda step: 0.999)
    return write_run({"head": products}, settings, kind="plain")


def test_a_plan_from_a_run_off_balance_carries_its_verdict(smd, doubtful) -> None:
    _, out, _ = smd("forecast", *SGD, "--steps", 2_000_000, "--pull-from", doubtful, "--group=head")
    text = " ".join(out.split())
    assert "Do not rely on it: something else wrote these weights between steps" in text
    assert (
        "In that run head is written between steps: the weights were written between steps" in text
    )
    assert "reaches its equilibrium" not in text
    _, out, _ = smd(
        "forecast", *SGD, "--steps", 20, "--pull-from", doubtful, "--group=head", "--json"
    )
    assert strict(out)["doubt"].startswith("something else wrote")


def test_a_guess_stands_in_headline_and_table(smd, write_run) -> None:
    settings = constant(0.1, 0.01, 0.9, 600)
    for kind, guesses in (("plain", True), ("scale", False)):
        run = write_run({"head": pulled_sgd(settings)}, settings, kind=kind)
        options = ["--lr", 0.1, "--wd", 0.01, "--momentum", 0.9, "--steps", 2_000_000]
        _, out, _ = smd("forecast", *options, "--pull-from", run, "--group", "head")
        headline, table = out.partition("stage")[0], out.partition("What this says")[0]
        assert ("a guess" in " ".join(headline.split()).lower()) == guesses
        assert ("(a guess)" in " ".join(table.split())) == guesses
        assert "In that run" not in out


def test_a_pull_that_may_be_zero_promises_nothing_at_the_terminal(smd, write_run) -> None:
    settings = constant(0.05, 0.01, 0.9, 800)
    products = pulled_sgd(settings, -0.009)
    noise = np.random.default_rng(0).standard_normal(800)
    products[:, 3] += 0.1 * (noise - noise[612:].mean()) * products[:, 0]
    run = write_run({"head": products}, settings, kind="plain")
    options = ["--lr", 0.05, "--wd", 0.01, "--momentum", 0.9, "--pull-from", run, "--group", "head"]
    for steps in (20, 200_000):
        _, out, _ = smd("forecast", *options, "--steps", steps)
        text = " ".join(out.split())
        assert "may not settle" in text
        for claim in ("reaches its equilibrium", "throughout", "raise", "raising"):
            assert claim not in text
        _, out, _ = smd("forecast", *options, "--steps", steps, "--json")
        assert strict(out)["stages"][0]["end"] == "may not settle (a guess)"


def test_a_plan_from_a_pull_says_what_it_takes_to_stay(smd) -> None:
    options = ["--lr", 0.1, "--wd", 0.01, "--momentum", 0.9, "--time-constant", 5_000]
    said = "The loss's part of the pull is taken to stay as it was"
    assert said not in smd("plan", *options)[1]
    _, out, _ = smd("plan", *options, "--pull", 0.005)
    text = " ".join(out.split())
    assert said in text
    assert "a guess for weights that are not scale-invariant" in text
