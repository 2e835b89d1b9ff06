"""`smd inspect MODEL`: scale-invariant groups, their defects, and reasons for the other weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spherical_motion.cli.inspection_text import inspection_to_plain, print_inspection
from spherical_motion.cli.printing import print_json, working

if TYPE_CHECKING:
    from torch import Tensor, nn

EXAMPLES = 16
SEQUENCES = 2
"""Default size of the probing batch: of images, and of token sequences."""


def inspect_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A recipe, torchvision:NAME, timm:NAME, transformers:CONFIG (a directory or a "
            "class) or module:factory; with settings as NAME?key=value&key=value.",
            metavar="MODEL",
        ),
    ],
    input: Annotated[
        str | None, typer.Option("--input", help="Shape of one example, like 3x224x224.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Instead of --input: length of random token ids.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Probing batch: {EXAMPLES} examples, {SEQUENCES} sequences."),
    ] = None,
    granularity: Annotated[
        Literal["layer", "filter"], typer.Option(help="One group a layer, or one a filter.")
    ] = "layer",
    filter: Annotated[bool, typer.Option("--filter", help="Short for that.")] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="Probe in float32: half the memory, less certain.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Find a model's scale-invariant groups by probe and certificate, and explain the rest.

    Example: smd inspect digits

    Example: smd inspect torchvision:resnet18 --input 3x64x64

    Example: smd inspect "transformers:GPT2Config?n_layer=2" --tokens 64

    Example: smd inspect mymodels:resnet20 --input 3x32x32

    Exits with 1 if there is no invariant group.
    """
    import torch

    from spherical_motion.invariance import inspect_model

    network, example = _model_and_inputs(model, input, tokens, batch_size)
    if filter:
        granularity = "filter"
    start = time.perf_counter()
    with working("probing ..."):
        found = inspect_model(
            network, example, granularity, dtype=torch.float32 if float32 else torch.float64
        )
    seconds = time.perf_counter() - start
    if json:
        print_json(inspection_to_plain(found, seconds))
    else:
        print_inspection(found, seconds)
    raise typer.Exit(0 if found.groups else 1)


def _model_and_inputs(
    model: str, shape: str | None, tokens: int | None, batch_size: int | None
) -> tuple[nn.Module, Tensor | Mapping[str, Tensor]]:
    import torch

    from spherical_motion.compat import load_model, random_input, random_tokens
    from spherical_motion.errors import InvalidArgument
    from spherical_motion.recipes import RECIPES, recipe

    if shape is not None and tokens is not None:
        raise InvalidArgument(
            f"smd inspect {model} expects --input or --tokens, got both. Leave one out."
        )
    torch.manual_seed(0)  # the same random initial weights each time
    if model in RECIPES:
        network, _, images = recipe(model).build()
        if shape is None and tokens is None:
            return network, images[: batch_size or EXAMPLES]
    else:
        if shape is None and tokens is None:
            raise InvalidArgument(
                f"smd inspect {model} needs --input, like --input 3x224x224, or for token ids "
                "--tokens, like --tokens 128."
            )
        network = load_model(model)
    if tokens is not None:
        return network, random_tokens(network, tokens, batch_size or SEQUENCES)
    assert shape is not None
    return network, random_input(shape, batch_size or EXAMPLES)
