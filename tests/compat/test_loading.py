"""Models by name: one loader a library, no downloads, and errors that say what to do."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from spherical_motion.compat import load_model, random_input, random_tokens
from spherical_motion.compat.settings import library
from spherical_motion.errors import InvalidArgument, MissingExtra


def needs(package: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(absent, reason=f"{package} is not installed")


NAMED = [
    pytest.param("torchvision:resnet18?num_classes=7", "ResNet", marks=needs("torchvision")),
    pytest.param("torchvision:googlenet?aux_logits=False", "GoogLeNet", marks=needs("torchvision")),
    pytest.param("torchvision:fcn_resnet50", "FCN", marks=needs("torchvision")),
    pytest.param(
        "timm:vit_tiny_patch16_224?img_size=32&depth=1", "VisionTransformer", marks=needs("timm")
    ),
    pytest.param(
        "transformers:LlamaConfig?num_hidden_layers=1&hidden_size=32&intermediate_size=32"
        "&num_attention_heads=2&vocab_size=50",
        "LlamaModel",
        marks=needs("transformers"),
    ),
    pytest.param(
        "transformers:GPT2LMHeadModel?n_layer=1&n_embd=32&n_head=2&vocab_size=50",
        "GPT2LMHeadModel",
        marks=needs("transformers"),
    ),
    ("torch.nn:Linear?in_features=3&out_features=2", "Linear"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> None:
    """Any attempt to connect is an error."""
    import socket

    def refuse(*args: object) -> None:
        raise AssertionError("a loader tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of other people's imports
@pytest.mark.parametrize(("spec", "kind"), NAMED)
def test_models_by_name(spec: str, kind: str) -> None:
    model = load_model(spec)
    assert type(model).__name__ == kind
    assert model.training


@needs("transformers")
def test_a_directory_with_a_configuration(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 50}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(f"transformers:{tmp_path}?n_layer=1")
    assert sum(".attn.c_attn.weight" in name for name, _ in model.named_parameters()) == 1
    assert model.get_parameter("wte.weight").shape == (50, 16)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("torchvision:resnet81", "Did you mean 'resnet18'", marks=needs("torchvision")),
        pytest.param("torchvision:resnet18?wide=3", "'wide'", marks=needs("torchvision")),
        pytest.param("timm:resnet18d0", "Did you mean", marks=needs("timm")),
        pytest.param("timm:hf-hub:someone/model", "no model", marks=needs("timm")),
        pytest.param("transformers:GTP2Config", "GPT2Config", marks=needs("transformers")),
        pytest.param("transformers:someone/model", "config.json", marks=needs("transformers")),
        pytest.param("transformers:GPT2Config?n_layr=1", "n_layer", marks=needs("transformers")),
        pytest.param(
            "transformers:LlamaConfig?hidden_size=20&num_attention_heads=7",
            "multiple",
            marks=needs("transformers"),
        ),
        pytest.param(
            "transformers:LlamaConfig?hidden_size=65536", "GB", marks=needs("transformers")
        ),
        ("torch.nn:Linear?in_features", "key=value"),
        ("torch.nn:Linear", "in_features"),
        ("torch.nn:Nothing", "cannot be loaded"),
        ("torch:Tensor", "torch.nn.Module"),
        ("torch:pi", "function or class"),
        ("resnet18", "torchvision:NAME"),
        (":x", "module:factory"),
        ("..models:x", "as after `import`"),
        ("models.py:x", "No module named"),
        ("broken_models:make", r"SyntaxError.*broken_models\.py, line 1"),
        ("odd_models:make", r"failed while it was made: ValueError: too wide \(.*line 2\)"),
        ("odd_models:wrong", r"failed while it was made: TypeError"),
        ("odd_models:needs", r"cannot be called with.*'width'.*key=value"),
    ],
)
def test_what_cannot_be_built(spec: str, message: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_models.py").write_text("def make(:\n")
    (tmp_path / "odd_models.py").write_text(
        "def make():\n    raise ValueError('too wide')\n"
        "def wrong():\n    return len(3)\n"
        "def needs(width):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("broken_models", "odd_models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(InvalidArgument, match=message):
        load_model(spec)


@pytest.mark.parametrize("name", ["torchvision", "timm", "transformers"])
def test_a_missing_library_names_the_command(name: str, monkeypatch) -> None:
    real = importlib.import_module

    def absent(wanted: str, *args: object):
        if wanted == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(wanted, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setitem(sys.modules, "torchvision", builtins)  # nothing to mend
    with pytest.raises(MissingExtra, match=r"pip install 'spherical-motion\[models\]'"):
        load_model(f"{name}:anything")


def test_a_library_that_fails_to_import_is_not_called_missing(tmp_path, monkeypatch) -> None:
    (tmp_path / "halflib.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        library("halflib")


def test_inputs_are_the_same_each_time() -> None:
    assert torch.equal(random_input("3x4", 2), random_input("3x4", 2))
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=3))
    ids = random_tokens(model, 50, 4)
    assert torch.equal(ids, random_tokens(model, 50, 4))
    assert set(ids.unique().tolist()) == {0, 1, 2, 4, 5, 6, 7, 8}


@needs("transformers")
def test_encoder_decoders_get_tokens_for_both() -> None:
    model = load_model("transformers:T5Config?num_layers=1&d_model=16&d_ff=16&vocab_size=40")
    tokens = random_tokens(model, 6, 2)
    assert set(tokens) == {"input_ids", "decoder_input_ids"}
    model(**tokens)


def test_tokens_for_a_model_without_a_vocabulary() -> None:
    with pytest.raises(InvalidArgument, match="--input"):
        random_tokens(nn.Linear(2, 2), 4, 2)
