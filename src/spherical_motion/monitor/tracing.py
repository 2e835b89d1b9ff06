"""Hooks that a compiler leaves alone, at little cost where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch

try:
    # Whether code that runs now is being compiled; torch has no public name for it.
    from torch._C._dynamo.eval_frame import (  # pyright: ignore[reportMissingImports]
        get_eval_frame_callback as _compiler,
    )
except ImportError:
    _compiler = None

Hook = Callable[..., None]


def untraced(hook: Hook) -> Hook:
    """The hook, as a compiler that traces `step` leaves it alone, with all that it calls.

    What `torch.compiler.disable` puts around it takes as long as a good part of the hook, so it is
    only used where a compiler is at work.
    """
    disabled, compiler = cast(Hook, torch.compiler.disable(hook)), _compiler
    if compiler is None:
        return disabled

    def run(*args: object) -> None:
        if compiler() is None:
            hook(*args)
        else:
            disabled(*args)

    return cast(Hook, torch.compiler.disable(run, recursive=False))
