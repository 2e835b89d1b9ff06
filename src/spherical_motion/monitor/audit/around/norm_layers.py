"""How much of ε is in the norm layers that parameters feed, and whether these are in eval mode."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from spherical_motion.errors import SphericalMotionError
from spherical_motion.invariance import NormFed, NormListener, norms_fed, unwrapped
from spherical_motion.monitor.run.hooks import HookEntry, leave
from spherical_motion.vocabulary.groups import strip_wrappers

Fed = Mapping[str, tuple[NormFed, ...]]
"""Which norm calls each parameter feeds, as `invariance.norms_fed` finds them."""

NO_INPUTS = "no example_inputs were given, which show the norm layers that a parameter feeds"
COMPILED = "the model is compiled, and a hook would change what is compiled"
UNKNOWN = (math.nan, math.nan)


def fed_or_why(model: nn.Module, example_inputs: object) -> Fed | str:
    """What feeds which norm layer, or why this is not known; never raises.

    >>> fed_or_why(nn.Linear(2, 2), None)
    'no example_inputs were given, which show the norm layers that a parameter feeds'
    """
    if example_inputs is None:
        return NO_INPUTS
    if id(unwrapped(model)) in _compiled(model):
        return COMPILED
    try:
        return norms_fed(model, example_inputs)
    except SphericalMotionError as error:
        return f"the model could not be probed: {error}"


class NormLayers:
    """Measures ε/(variance + ε) in the norm layers that some parameters feed, while armed.

    Armed, it hooks these layers and hears the norm calls of each forward pass that builds a graph,
    also the second one of a checkpointed layer. Passes without gradients are not counted, so that
    an evaluation between two steps does not show. Disarmed, nothing is left on the model.

    It changes no output, keeps no graph and never raises. Compiled and scripted modules are left
    alone: what they contain is unknown.

    Args:
        model: the network, wrapped or not.
        fed: which norm calls each parameter feeds, or why this is not known.
        parameters: names of those to answer for.
        wanted: whether anyone will ask for an answer still; if not, an armed one hears nothing.

    Attributes:
        why: why nothing can be known; "" if something can.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=0.1))
    >>> layers = NormLayers(net, norms_fed(net, torch.randn(8, 3)), ["0.weight"])
    >>> layers.arm()
    >>> _ = net(torch.randn(8, 3))
    >>> share, in_eval = layers.read("0.weight")
    >>> layers.disarm()
    >>> 0 < share < 1, in_eval
    (True, 0.0)
    """

    def __init__(
        self,
        model: nn.Module,
        fed: Fed | str,
        parameters: Iterable[str],
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._is_wanted = wanted
        self.why = fed if isinstance(fed, str) else ""
        known: Fed = {} if isinstance(fed, str) else fed
        self._fed = {name: known[name] for name in parameters if name in known}
        self._model = model
        modules = unwrapped(model).named_modules()
        self._by_name = {strip_wrappers(name): module for name, module in modules}
        self._wanted = {norm.module for norms in self._fed.values() for norm in norms}
        self._handles: list[HookEntry] = []
        self._heard: dict[NormFed, list[tuple[bool, Tensor | None]]] = {}
        self._running = threading.local()

    @property
    def armed(self) -> bool:
        """Whether the hooks are on the model."""
        return bool(self._handles)

    def arm(self) -> None:
        """Hook the layers, for the forward passes to come; forgets what was heard."""
        self._heard = {}
        if self._handles:
            return
        for name, module in self._hookable().items():
            enter, leave = Hook(lambda name=name: self._enter(name)), Hook(self._leave)
            self._handles += [
                HookEntry(module.register_forward_pre_hook(enter)),
                HookEntry(module.register_forward_hook(leave, always_call=True)),
            ]

    def disarm(self) -> None:
        """Take the hooks off and forget what was heard; may be repeated."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._heard = [], {}
        self._end()

    def clear(self) -> None:
        """Forget what was heard, and stay armed."""
        self._heard = {}
        self._end()

    def read(self, parameter: str) -> tuple[float, float]:
        """(mean of ε/(variance + ε), 1 if a layer used running statistics) since `arm`, or NaN.

        The mean is over the layers that the parameter feeds, each with the mean of its calls. Of a
        layer that ran both ways, only the calls with statistics of their own count.
        """
        shares: list[float] = []
        in_eval: list[bool] = []
        for norm in self._fed.get(parameter, ()):
            heard = self._heard.get(norm, [])
            own = [share for is_own, share in heard if is_own]
            counted = own or [share for _, share in heard]
            known = [float(share) for share in counted if share is not None]
            if heard:
                in_eval.append(not own)
            if known:
                shares.append(sum(known) / len(known))
        if not in_eval:
            return UNKNOWN
        share = sum(shares) / len(shares) if shares else math.nan
        return share, float(any(in_eval))

    def _hookable(self) -> dict[str, nn.Module]:
        """The modules to hook: those that make the norm calls, and all inside them.

        A norm call counts for the innermost of them, so none inside may be left out.
        """
        closed = _compiled(self._model)
        found: dict[str, nn.Module] = {}
        for name in sorted(self._wanted & self._by_name.keys()):
            if closed.isdisjoint(map(id, self._by_name[name].modules())):
                below = f"{name}." if name else ""
                found |= {
                    n: m for n, m in self._by_name.items() if n.startswith(below) or n == name
                }
        if self._wanted and not found:
            self.why = COMPILED
        return found

    def _enter(self, name: str) -> None:
        stack = self._stack()
        if not stack:
            if not self._is_wanted():
                leave(self._handles)  # its owner was collected, and could not take them off
                self._handles, self._heard = [], {}
                return
            self._running.listener = NormListener(self._hear)
            self._running.listener.__enter__()
        stack.append([name, 0])

    def _leave(self) -> None:
        stack = self._stack()
        if not stack:
            return
        stack.pop()
        if not stack:
            self._end()

    def _end(self) -> None:
        """Stop listening, also after a forward pass that was interrupted."""
        self._stack().clear()
        listener = getattr(self._running, "listener", None)
        if listener is not None:
            self._running.listener = None
            listener.__exit__(None, None, None)

    def _hear(self, own: bool, share: Tensor | None) -> None:
        frame = self._stack()[-1]
        name, call = frame
        frame[1] = call + 1
        if torch.is_grad_enabled():
            self._heard.setdefault(NormFed(name, call), []).append((own, share))

    def _stack(self) -> list[list]:
        """The hooked modules that run on this thread, and how many norm calls each has made.

        A checkpointed layer runs again on a thread of the backward pass.
        """
        if not hasattr(self._running, "stack"):
            self._running.stack = []
        return self._running.stack


class Hook:
    """A hook that calls `act`; copies and pickles of it do nothing.

    A model may be copied or saved while it is hooked. Code that is being compiled or traced does
    not see the hook either.
    """

    def __init__(self, act: Callable[[], None] | None = None) -> None:
        self._act = act

    def __call__(self, *_: object) -> None:
        traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        if not traced and not torch.compiler.is_compiling() and self._act is not None:
            self._act()

    def __deepcopy__(self, memo: object) -> Hook:
        return Hook()

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()


def _compiled(model: nn.Module) -> set[int]:
    """The identities of modules that are compiled or scripted, and of all inside them."""
    found: set[int] = set()
    for module in model.modules():
        inner = getattr(module, "_orig_mod", None)
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if isinstance(inner, nn.Module) or compiled or isinstance(module, torch.jit.ScriptModule):
            found.update(map(id, module.modules()))
    return found
