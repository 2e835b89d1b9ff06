"""Results → the generated tables of docs/balance.md."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from balance.training import OPTIMIZERS

__all__ = ["page", "within"]

Window: TypeAlias = dict[str, Any]

LAWS = ("plain", "rest", "balance", "exact")
GOALS = {0.05: 0.95, 0.02: 0.85}
"""Share of all windows that the balance law must predict within 5% and within 2%."""
GOAL_SGD = 1e-4

CLEAR = 5.0
"""Amplification above which a ratio is an interval rather than a number."""


def page(text: str, results: dict[str, Any]) -> str:
    """`text` with its generated blocks as `results` have them."""
    for name, block in blocks(results).items():
        begin, end = f"<!-- {name} -->", "<!-- end -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        new = f"{begin}\n{block}\n{end}"
        text = re.sub(pattern, lambda _, new=new: new, text, flags=re.DOTALL)
    return text


def blocks(results: dict[str, Any]) -> dict[str, str]:
    """The blocks by the name of their marker."""
    usual = [run for run in results["runs"] if run["counts"]]
    harder = [run for run in results["runs"] if not run["counts"]]
    return {
        "nets": nets(usual),
        "totals": totals(usual),
        "goals": goals(usual),
        "by optimizer": by_optimizer(usual),
        "intervals": intervals(usual),
        "size of S": size_of_change(usual),
        "heads": heads(usual),
        "table": table(usual),
        "harder": table(harder) if harder else "Not measured.",
        "machine": machine(results["machine"]),
    }


def nets(runs: list[dict[str, Any]]) -> str:
    notes = {run["net"]: run["note"] for run in runs}
    return "\n".join(f"- **{net}**: {note}" for net, note in notes.items())


def totals(runs: list[dict[str, Any]]) -> str:
    found, seconds = windows(runs), sum(run["seconds"] for run in runs)
    matrices = sum(len(run["matrices"]) for run in runs)
    return (
        f"{len({run['net'] for run in runs})} nets, {len(runs)} runs of "
        f"{runs[0]['steps']:,} steps, {matrices} matrices, {len(found):,} windows of at least 500 "
        f"steps, {seconds / 60:.0f} minutes on one core."
    )


def goals(runs: list[dict[str, Any]]) -> str:
    """What was asked and what came out, one line each."""
    found = windows(runs)
    clear = [window for window in found if window["amplification"] <= CLEAR]
    rows = [
        "| goal | asked | all windows | where amplification is ≤ 5 |",
        "|---|---|---|---|",
    ]
    for law, words in (("balance", "seven products"), ("exact", "eight products")):
        for limit, least in GOALS.items():
            shares = " | ".join(cut(within(some, law, limit)) for some in (found, clear))
            rows.append(f"| balance within {limit:.0%}, {words} | ≥ {least:.0%} | {shares} |")
    for name in ("SGDM", "Nesterov"):
        sgd = windows([run for run in runs if run["optimizer"] == name])
        worst = max(off(window, "balance") for window in sgd)
        rows.append(f"| {name}, farthest from 1 | ≤ {GOAL_SGD:g} | {worst:.0e} | |")
    return "\n".join(rows)


def intervals(runs: list[dict[str, Any]]) -> str:
    """How often the interval of a user's row holds 1, with seven products."""
    adams = [run for run in runs if run["optimizer"].startswith("Adam")]
    rows = [matrix["row_of_seven"] for run in adams for matrix in run["matrices"]]
    known = [row for row in rows if row["balance"] is not None]
    held = sum(row["low"] <= 1.0 <= row["high"] for row in known)
    return (
        f"Rows of whole runs with the Adams and seven products: {len(known)} of {len(rows)} have a "
        f"balance, and the 95% interval of {held} of these holds 1."
    )


def size_of_change(runs: list[dict[str, Any]]) -> str:
    """How large S is, beside the largest term of the law."""
    found = windows([run for run in runs if run["optimizer"].startswith("Adam")])
    shares = [abs(w["change"]) / max(1.0, w["amplification"]) for w in found]
    half, most, worst = (percent(float(x)) for x in np.quantile(shares, [0.5, 0.95, 1.0]))
    return (
        f"Measured at β2 = 0.999, S is up to {half} of the law's largest term in half of all "
        f"windows, up to {most} in 95% of them, and {worst} at the most."
    )


HEADS = ("head", "token", "next", "after", "letter", "11", "7")
"""Names of the matrices that make the logits; the token embedding where it is the head, too."""


def heads(runs: list[dict[str, Any]]) -> str:
    """Pull and amplification of the heads, with AdamW at a constant rate."""
    head = "| net | head | pull/λ, window by window | amplification |"
    rows = [head, "|---|---|---|---|"]
    for run in runs:
        if (run["optimizer"], run["schedule"]) != ("AdamW", "constant"):
            continue
        names = [m["name"] for m in run["matrices"] if m["name"] in HEADS]
        if "head" in names:
            names = ["head"]
        for matrix in run["matrices"]:
            if matrix["name"] in names:
                pulls = ", ".join(f"{w['pull']:.2f}" for w in matrix["windows"])
                sizes = ", ".join(f"{w['amplification']:.1f}" for w in matrix["windows"])
                rows.append(f"| {run['net']} | `{matrix['name']}` | {pulls} | {sizes} |")
    return "\n".join(rows)


def by_optimizer(runs: list[dict[str, Any]]) -> str:
    """One row an optimizer, before and after."""
    head = "| optimizer | windows | " + " | ".join(TITLES[law] for law in LAWS) + " |"
    rows = [head, "|---|---:" + "|---" * len(LAWS) + "|"]
    for name in (*OPTIMIZERS, "all"):
        found = windows([run for run in runs if name in ("all", run["optimizer"])])
        cells = [
            f"{cut(within(found, law, 0.05))} / {cut(within(found, law, 0.02))}; "
            f"{middle(found, law)}"
            for law in LAWS
        ]
        rows.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


TITLES = {
    "plain": "plain law",
    "rest": "with the pull, at rest",
    "balance": "balance law",
    "exact": "balance law with S",
}


def table(runs: list[dict[str, Any]]) -> str:
    """One row a run."""
    head = (
        "| net | optimizer | rate | matrices (windows) | plain law: 5% / 2%; worst, why "
        "| pull, at rest: 5% / 2%; worst, why | balance: 5% / 2%; worst, why | with S: worst |"
    )
    rows = [head, "|---" * 3 + "|---:" + "|---" * 4 + "|"]
    for run in runs:
        found = windows([run])
        name = run["optimizer"] + ("" if run["beta2"] == 0.999 else f", β2 {run['beta2']:g}")
        cells = [
            f"{run['net']} | {name} | {run['schedule']}",
            f"{len(run['matrices'])} ({len(found)})",
        ]
        for law, why in REASONS.items():
            worst = max(found, key=lambda w, law=law: (off(w, law), abs(without_change(w) - 1.0)))
            because = f" ({why(worst)})" if off(worst, law) > 0.02 else ""
            shares = f"{cut(within(found, law, 0.05))} / {cut(within(found, law, 0.02))}"
            cells.append(f"{shares}; {number(worst[law])}{because}")
        worst = max(found, key=lambda window: off(window, "exact"))
        cells.append(f"{off(worst, 'exact'):.0e}" if math.isfinite(off(worst, "exact")) else "–")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def why_plain(window: Window) -> str:
    """What the plain law leaves out: the loss's pull, and growth."""
    growth = percent(window["growth"])
    return f"`{window['matrix']}`, pull {number(window['pull'])} λ, growth/law {growth}"


def why_rest(window: Window) -> str:
    if window["pull"] <= 0.0:
        return f"`{window['matrix']}`, the pull is outward: no rest"
    return f"`{window['matrix']}`, growth/law {percent(window['growth'])}"


def why_balance(window: Window) -> str:
    text = f"`{window['matrix']}`, "
    if window["balance"] is None:
        text += f"refused, would be {number(without_change(window))}"
    else:
        share = percent(window["change"] / max(1.0, window["amplification"]))
        text += f"S is {share} of the largest term"
    cancel = f", terms cancel to 1/{window['amplification']:.0f}"
    return text + (cancel if window["amplification"] >= 2.0 else "")


def without_change(window: Window) -> float:
    """What the ratio without S is, also where the library refuses to give it."""
    return window["exact"] / math.sqrt(1.0 - window["change"])


REASONS: dict[str, Callable[[Window], str]] = {
    "plain": why_plain,
    "rest": why_rest,
    "balance": why_balance,
}


def windows(runs: Iterable[dict[str, Any]]) -> list[Window]:
    """All windows of all matrices, each with the name of its matrix."""
    return [
        window | {"matrix": matrix["name"].removesuffix(".weight")}
        for run in runs
        for matrix in run["matrices"]
        for window in matrix["windows"]
    ]


def off(window: Window, law: str) -> float:
    """Distance of the ratio from 1; infinite where the law predicts no motion."""
    ratio = window[law]
    return math.inf if ratio is None else abs(ratio - 1.0)


def within(found: list[Window], law: str, limit: float) -> float:
    """Share of the windows whose ratio is at most `limit` from 1.

    >>> within([{"balance": 1.01}, {"balance": 0.9}, {"balance": None}, {"balance": 1.0}],
    ...        "balance", 0.02)
    0.5
    """
    return sum(off(window, law) <= limit for window in found) / len(found)


def middle(found: list[Window], law: str) -> str:
    """From the lowest to the highest ratio, and how often the law predicts none."""
    ratios = sorted(window[law] for window in found if window[law] is not None)
    if not ratios:
        return "none"
    none = len(found) - len(ratios)
    text = f"{number(ratios[0])} to {number(ratios[-1])}"
    return text + (f", {none} without" if none else "")


def number(ratio: float | None) -> str:
    """A ratio in three digits; more if it is close to 1.

    >>> number(0.8642), number(17.31), number(1.00003), number(None)
    ('0.86', '17.3', '1.0000', 'none')
    """
    if ratio is None:
        return "none"
    if abs(ratio - 1.0) < 0.1:
        return f"{ratio:.4f}" if abs(ratio - 1.0) < 0.001 else f"{ratio:.3f}"
    return f"{ratio:.2f}" if ratio < 10.0 else f"{ratio:.1f}"


def percent(share: float) -> str:
    """A share of the law; in multiples of it if it is large.

    >>> percent(0.0123), percent(-0.5), percent(-12.3)
    ('1.2%', '-50%', '-12 ×')
    """
    if abs(share) >= 3.0:
        return f"{share:.0f} ×"
    return f"{share:.0%}" if abs(share) >= 0.1 else f"{share:.1%}"


def cut(share: float) -> str:
    """A share in whole percent, never rounded up.

    >>> cut(0.9999), cut(1.0)
    ('99%', '100%')
    """
    return f"{math.floor(100.0 * share + 1e-9)}%"


def machine(facts: dict[str, Any]) -> str:
    return "Measured on one core: " + ", ".join(f"{k} {v}" for k, v in facts.items()) + "."
