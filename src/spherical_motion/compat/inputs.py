"""Random inputs for a model: numbers of a shape, or tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spherical_motion.errors import InvalidArgument


def random_input(shape: str, batch_size: int) -> Tensor:
    """A batch of standard normal numbers; `shape` is one example's, like 3x224x224.

    >>> random_input("3x8x8", batch_size=4).shape
    torch.Size([4, 3, 8, 8])
    """
    if not re.fullmatch(r"\d+(x\d+)*", shape):
        raise InvalidArgument(
            f"--input must be the shape of one example, like 3x224x224, got {shape!r}."
        )
    sizes = [int(size) for size in shape.split("x")]
    return torch.randn(batch_size, *sizes, generator=torch.Generator().manual_seed(0))


def random_tokens(model: nn.Module, length: int, batch_size: int) -> Tensor | Mapping[str, Tensor]:
    """A batch of random token ids below the model's vocabulary size, without its padding token.

    Models with a transformers configuration get them by name, encoder-decoders also for the
    decoder; any other model gets the tensor.

    Raises:
        InvalidArgument: the model has no embedding and no vocabulary size.

    >>> ids = random_tokens(nn.Embedding(10, 4, padding_idx=0), length=6, batch_size=2)
    >>> ids.shape, bool((ids > 0).all())
    (torch.Size([2, 6]), True)
    """
    size, padding = _vocabulary(model)
    allowed = torch.tensor([i for i in range(size) if i != padding])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(allowed), (2, batch_size, length), generator=generator)
    ids, following = allowed[drawn]
    config = getattr(model, "config", None)
    if not hasattr(config, "vocab_size"):
        return ids
    if getattr(config, "is_encoder_decoder", False):
        return {"input_ids": ids, "decoder_input_ids": following}
    return {"input_ids": ids}


def _vocabulary(model: nn.Module) -> tuple[int, int | None]:
    """Number of tokens and the padding token, of the first embedding or of the configuration."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return module.num_embeddings, module.padding_idx
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(size, int):
        raise InvalidArgument(
            f"--tokens needs a model with a token embedding; {type(model).__name__} has none. "
            "Give the shape of one example with --input instead."
        )
    return size, None
