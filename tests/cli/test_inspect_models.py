"""`smd inspect` on models of every kind, as a person at a terminal meets it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from spherical_motion import cli
from spherical_motion.cli.inspection_text import extent, members, print_inspection
from spherical_motion.invariance import Inspection, Uncovered, Why
from spherical_motion.invariance.reasons.explain import MOST_RESCALINGS
from spherical_motion.notices import listed
from spherical_motion.vocabulary import Cause, InvariantGroup, Reason, Slice

NETS = """
from torch import nn
import torch

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.up, self.down = nn.Linear(12, 16), nn.Linear(16, 12)
    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

class Tokens(nn.Module):
    def __init__(self, depth=2):
        super().__init__()
        self.embed = nn.Embedding(11, 12)
        self.blocks = nn.Sequential(*(Block() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 11)
    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.embed(ids))))

def deep(depth=2):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(6, 2))
"""


@pytest.fixture
def smd(monkeypatch, capsys, tmp_path: Path):
    """Run `smd` beside a file of networks; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_to_inspect.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_to_inspect", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smd", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(exit.value.code or 0), captured.out, captured.err

    return run


def test_tokens_and_a_stream_of_many_members(smd) -> None:
    code, out, _ = smd("inspect", "nets_to_inspect:Tokens", "--tokens", 7)
    assert code == 0
    assert "1 scale-invariant group\n" in out
    assert "5 parameters" in out
    assert "embed.weight, blocks.0.down.weight, blocks.0.down.bias, blocks.1.down.weight" in out
    assert "Rescaling symmetries" in out
    assert "Not in a group" in out
    *_, footer = out.splitlines()
    assert re.search(r"% of all entries; \d forward and backward passes, \d forwards", footer)
    assert re.search(r"and \d backwards besides", footer)


def test_settings_and_json(smd) -> None:
    code, out, _ = smd("inspect", "nets_to_inspect:Tokens?depth=1", "--tokens", 7, "--json")
    found = json.loads(out)
    assert code == 0
    (group,) = found["groups"]
    assert group["kind"] == "scale"
    assert len(group["slices"]) == 3
    assert 0 < group["defect"] < 1e-2
    assert group["defect_error"] > 0
    assert {entry["parameter"] for entry in found["not_invariant"]} >= {"head.weight"}
    assert all(set(entry["powers"]) == {1, -1} for entry in found["rescalings"])
    assert found["seconds"] > 0
    assert found["passes"] <= 6


def test_filters_and_float32(smd) -> None:
    base = ("inspect", "nets_to_inspect:deep", "--input", 6)
    code, out, _ = smd(*base, "--filter", "--json")
    assert code == 0
    assert sum(g["name"].startswith("0[") for g in json.loads(out)["groups"]) == 6
    code, out, _ = smd(*base, "--float32", "--json")
    assert code == 0
    assert "0" in [g["name"] for g in json.loads(out)["groups"]]


def defect(value: float) -> Reason:
    return Reason(Why.DEFECT, {"defect": value})


def printed(capsys, *uncovered: Uncovered, **costs: int) -> list[str]:
    """Lines of an inspection that found no group."""
    spent = {"passes": 3, "forwards": 0, "backwards": 0, "repairs": 0} | costs
    found = Inspection((), (), uncovered, 0.5, (), (), False, **spent)
    print_inspection(found, seconds=1.0)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_head_in_a_sequence_is_not_taken_for_a_gain(capsys) -> None:
    names = ("1.weight", "5.weight", "net.1.weight", "net.5.weight")
    lines = printed(
        capsys,
        *(
            Uncovered(n, Cause.NO_NORM, (Reason(Why.NO_NORM), defect(i / 10)))
            for i, n in enumerate(names, 3)
        ),
    )
    assert [line.split()[0] for line in lines if "no norm layer" in line] == list(names)
    assert not any("alike" in line for line in lines)


def test_repeated_modules_share_a_row_with_the_range_of_their_numbers(capsys) -> None:
    def entry(i: int, share: float, cause: Cause = Cause.MIXED) -> Uncovered:
        runs_after = Reason(Why.HIDDEN, {"norm": f"h.{i}.norm"})
        return Uncovered(f"h.{i}.gate.bias", cause, (runs_after, defect(share)))

    alike = [entry(i, share) for i, share in enumerate((0.31, 0.27, 0.41))]
    lines = printed(capsys, *alike, entry(3, 0.9, Cause.SHARED))
    (merged,) = (line for line in lines if "`h.0.norm`" in line)
    assert merged.startswith("h.0.gate.bias ")
    assert merged.endswith("= 0.27 to 0.41")
    assert sum("and 2 alike" in line for line in lines) == 1
    assert any(line.startswith("h.3.gate.bias") and line.endswith("= 0.9") for line in lines)


def test_a_name_in_a_reason_is_no_number(capsys) -> None:
    lines = printed(
        capsys,
        *(
            Uncovered(
                f"a.{i}.b.w",
                Cause.SHARED,
                (
                    Reason(Why.NO_GRADIENT, {"probes": 3}),
                    Reason(Why.ALSO_SHARED, {"others": f"c.{i}.d, f{i}"}),
                ),
            )
            for i in (1, 2)
        ),
    )
    assert any("no gradient in any of 3 probes" in line for line in lines)
    assert any(line.endswith("; shared with c.1.d, f1") for line in lines)
    assert sum("and 1 alike" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "`g0`"), (2, "`g0` and `g1`"), (5, "`g0`, `g1` and 3 more")]
)
def test_of_many_rescalings_two_are_named(capsys, count: int, shown: str) -> None:
    names = listed([f"`g{i}`" for i in range(count)], MOST_RESCALINGS)
    parts = (defect(0.5), Reason(Why.RESCALES, {"groups": names}), Reason(Why.FROZEN))
    lines = printed(capsys, Uncovered("w", Cause.MIXED, parts))
    assert any(
        line.endswith(f" = 0.5; rescales with others as {shown}; frozen, so it does not move")
        for line in lines
    )


@pytest.mark.parametrize(
    ("costs", "shown"),
    [
        (
            {"passes": 5, "forwards": 3, "backwards": 2, "repairs": 1},
            "5 forward and backward passes, 3 forwards and 2 backwards besides, 1 of the passes a "
            "repair, 1.0 s.",
        ),
        (
            {"passes": 6, "backwards": 1, "repairs": 2},
            "6 forward and backward passes, 1 backward besides, 2 of the passes repairs, 1.0 s.",
        ),
        ({"passes": 1}, "1 forward and backward pass, 1.0 s."),
    ],
)
def test_the_footer_names_all_the_cost(capsys, costs: dict[str, int], shown: str) -> None:
    assert printed(capsys, **costs)[-1] == f"50.0% of all entries; {shown}"


def test_two_hundred_rows_stay_calm(capsys) -> None:
    groups = tuple(
        InvariantGroup(
            f"layers.{i}.conv", "scale", (whole,), ((whole,),), 36, defect=1e-5, defect_error=1e-6
        )
        for i in range(200)
        if (whole := Slice(f"layers.{i}.conv.weight", 0, 0, 4))
    )
    uncovered = tuple(
        Uncovered(
            f"layers.{i}.{name}",
            Cause.MIXED,
            (Reason(Why.HIDDEN, {"norm": f"layers.{i + 1}.norm"}), defect(0.01 + i / 1e4)),
        )
        for i in range(200)
        for name in ("norm.weight", "norm.bias")
    )
    inspection = Inspection(
        groups=groups,
        rescalings=(),
        uncovered=uncovered,
        coverage=0.9,
        warnings=(),
        notes=(),
        bit_identical=True,
        passes=5,
        forwards=3,
        backwards=0,
        repairs=0,
    )
    print_inspection(inspection, seconds=1.0)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 160
    assert sum("layers." in line and "1.0e-05 ± 1e-06" in line for line in lines) == 200
    reasons = lines[lines.index("Not in a group") :]
    assert len(reasons) < 12  # repeated layers share a row
    assert sum("and 199 alike" in line for line in reasons) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nets_to_inspect:Tokens",), "--tokens 128"),
        (("nets_to_inspect:Tokens", "--tokens", 5, "--input", "5"), "both"),
        (("nets_to_inspect:deep", "--tokens", 5), "--input"),
        (("nets_to_inspect:deep?depth=a", "--input", "6"), "nets_to_inspect:deep"),
    ],
)
def test_mistakes(smd, arguments: tuple[object, ...], message: str) -> None:
    code, out, err = smd("inspect", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("smd: ")
    assert message in err


LIBRARIES = {
    "torchvision": ("torchvision:shufflenet_v2_x0_5?num_classes=3", "--input", "3x64x64"),
    "timm": ("timm:resnet10t?num_classes=3", "--input", "3x32x32"),
    "transformers": (
        "transformers:GPT2Config?n_layer=1&n_embd=16&n_head=2&vocab_size=20"
        "&bos_token_id=None&eos_token_id=None",
        "--tokens",
        "12",
    ),
}


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of other people's imports
@pytest.mark.parametrize("library", LIBRARIES)
def test_models_of_libraries(smd, library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code, out, _ = smd("inspect", *LIBRARIES[library], "--batch-size", 8, "--json")
    assert code == 0
    assert json.loads(out)["coverage"] > 0.3


def group(*cells: tuple[Slice, ...]) -> InvariantGroup:
    slices = tuple(part for cell in cells for part in cell)
    return InvariantGroup("g", "scale", slices, cells, numel=1)


def test_what_the_cells_are_in_words() -> None:
    assert extent(group(*((Slice("w", 1, i, i + 1),) for i in range(3)))) == "3 columns"
    assert extent(group((Slice("w", 0, 0, 4),), (Slice("w", 0, 4, 8),))) == "2 blocks of 4 rows"
    weight, bias = Slice("fc.weight", 0, 0, 4), Slice("fc.bias", 0, 0, 4)
    assert extent(group((weight, bias))) == "jointly"
    assert members(group((weight, bias))) == "weight, bias"
    assert members(group((weight, Slice("out.bias", 0, 0, 2)))) == "fc.weight, out.bias"
