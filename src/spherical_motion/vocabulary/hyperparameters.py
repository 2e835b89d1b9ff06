"""The settings of an optimizer: one frozen, validated record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from spherical_motion import checks
from spherical_motion.checks import Number, plain
from spherical_motion.errors import InvalidArgument

ParamGroup: TypeAlias = Mapping[str, Any]
"""Settings under their names in `torch.optim`, whose values have many types."""

OPTIMIZERS = {
    "sgd": False,
    "adam": False,
    "adamw": True,
    "lion": True,
    "muon": True,
    "other": False,
    "amsgrad": False,
    "radam": False,
    "nadam": False,
    "adamax": False,
    "rmsprop": False,
    "adagrad": False,
}
"""Known optimizers → whether weight decay acts on the weights and not through the gradient.

"other" is recorded, and not predicted."""

BALANCE_ONLY = frozenset({"amsgrad", "radam", "nadam", "adamax", "rmsprop", "adagrad"})
"""Of these only the balance law is known, not where they come to rest; a family from outside the
package may take over their names."""

_replaced: set[str] = set()

CLASSES = {
    "SGD": "sgd",
    "Adam": "adam",
    "AdamW": "adamw",
    "Muon": "muon",
    "SingleDeviceMuon": "muon",
    "MuonWithAuxAdam": "muon",
    "SingleDeviceMuonWithAuxAdam": "muon",
    "RAdam": "radam",
    "NAdam": "nadam",
    "Adamax": "adamax",
    "RMSprop": "rmsprop",
    "Adagrad": "adagrad",
    **dict.fromkeys(("Lion", "Lion8bit", "Lion32bit"), "lion"),
    **dict.fromkeys(("PagedLion", "PagedLion8bit", "PagedLion32bit"), "lion"),
}
"""Class name → optimizer, for the classes of `torch.optim` and of common packages."""


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameters:
    """Settings of one parameter group at one step, named as in `torch.optim`.

    `momentum` is the heavy-ball coefficient of SGD and Muon and β1 of Adam-type optimizers and
    Lion; `betas=(β1, β2)` may be passed instead. `decoupled` means that weight decay acts on
    the weights and not through the gradient; left out, it follows from the optimizer.

    Raises:
        InvalidArgument: an unknown optimizer, or a value outside its range.

    >>> hp = HyperParameters("sgd", lr=0.1, weight_decay=1e-4, momentum=0.9)
    >>> hp.intrinsic_lr                     # lr × weight_decay, dimensionless
    1e-05
    >>> HyperParameters("adamw", lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95)).beta2
    0.95
    """

    optimizer: str
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta2: float | None = None
    eps: float | None = None
    nesterov: bool = False
    dampening: float = 0.0
    decoupled: bool | None = None
    maximize: bool = False
    betas: dataclasses.InitVar[tuple[float, float] | None] = None

    def __post_init__(self, betas: tuple[float, float] | None) -> None:
        if not isinstance(self.optimizer, str) or self.optimizer not in OPTIMIZERS:
            raise InvalidArgument(
                f"HyperParameters(optimizer=...) must be one of {', '.join(OPTIMIZERS)}, got "
                f"{self.optimizer!r}. Use 'other' for an optimizer without a prediction."
            )
        if betas is not None:
            if self.momentum or self.beta2 is not None:
                raise InvalidArgument(
                    "HyperParameters: pass either betas=(β1, β2) or momentum=β1 and beta2=β2, "
                    "not both."
                )
            if not isinstance(betas, (tuple, list)) or len(betas) != 2:
                raise InvalidArgument(
                    f"HyperParameters(betas=...) must be two numbers (β1, β2), got {betas!r}."
                )
            object.__setattr__(self, "momentum", betas[0])
            object.__setattr__(self, "beta2", betas[1])
        if self.decoupled is None:
            object.__setattr__(self, "decoupled", OPTIMIZERS[self.optimizer])
        self._check("lr", least=0.0)
        self._check("weight_decay", least=0.0)
        self._check("momentum", least=0.0, below=1.0)
        self._check("dampening")
        if self.beta2 is not None:
            self._check("beta2", least=0.0, below=1.0)
        if self.eps is not None:
            self._check("eps", least=0.0)

    def _check(self, name: str, least: float = -math.inf, below: float = math.inf) -> None:
        value = getattr(self, name)
        value = checks.number("HyperParameters", name, value, least=least, below=below)
        object.__setattr__(self, name, value)

    @property
    def intrinsic_lr(self) -> float:
        """lr × weight_decay, the small parameter ηλ of the theory; dimensionless."""
        return self.lr * self.weight_decay

    @classmethod
    def from_param_group(cls, class_name: str, group: ParamGroup) -> HyperParameters:
        """Read the settings of a `torch.optim` parameter group; torch is not needed.

        What no theory covers becomes "other": an unknown class, a variant that moves differently
        from its family (cautious updates), and settings outside their range, which are then left
        out. Adam and AdamW with amsgrad=True are "amsgrad".

        >>> HyperParameters.from_param_group("SGD", {"lr": 0.1, "momentum": 0.9}).momentum
        0.9
        """
        optimizer = CLASSES.get(class_name, "other")
        decoupled = bool(group.get("decoupled_weight_decay", OPTIMIZERS[optimizer]))
        if optimizer == "adam" and decoupled:
            optimizer = "adamw"
        if optimizer == "muon" and group.get("use_muon") is False:
            optimizer = "adamw"  # a class that steps some param groups by each rule
        cautious = group.get("caution") or group.get("cautious_factor", 1.0) != 1.0
        if group.get("amsgrad") and optimizer in ("adam", "adamw"):
            optimizer = "amsgrad"
        if cautious:
            optimizer = "other"
        nesterov, maximize = bool(group.get("nesterov")), bool(group.get("maximize"))
        try:
            lr, weight_decay, momentum, beta2 = settings_of(group)
            eps = float(group["eps"]) if group.get("eps") is not None else None
            dampening = float(group.get("dampening") or 0.0)
            fixed = (eps, nesterov, dampening, decoupled, maximize)
            return cls(optimizer, lr, weight_decay, momentum, beta2, *fixed)
        except (TypeError, ValueError, LookupError, OverflowError):
            return cls("other", lr=0.0)  # settings that are no numbers, or outside their range


def settings_of(group: ParamGroup) -> tuple[float, float, float, float | None]:
    """(lr, weight_decay, momentum or β1, β2 or None) of a parameter group, unvalidated.

    These may change from step to step; reading them is cheap enough to do at every step.

    >>> settings_of({"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.1})
    (0.001, 0.1, 0.9, 0.999)
    """
    betas = group.get("betas")
    momentum = (group.get("momentum") or 0.0) if betas is None else betas[0]
    beta2 = None if betas is None else float(betas[1])
    return float(group["lr"]), float(group.get("weight_decay") or 0.0), float(momentum), beta2


def pull_scale(hp: HyperParameters, momentum: Number | float | None = None) -> Number | float:
    """The factor c of the pull p = δ + c·<w, Px>/|w|² on the norm; δ is the decoupled decay.

    SGD with decay through the gradient: 1 - dampening (1 without momentum), because dampening
    weakens gradient and decay alike. SGD with decoupled decay: (1 - dampening)/(1 - α), because
    momentum multiplies the gradient and not the decay. All others: 1.

    Args:
        hp: names the optimizer.
        momentum: α at each step where it changes; `hp.momentum` if left out.

    >>> pull_scale(HyperParameters("sgd", lr=0.1, momentum=0.9))
    1.0
    >>> pull_scale(HyperParameters("sgd", lr=0.1, momentum=0.75, decoupled=True))
    4.0
    """
    alpha = np.asarray(hp.momentum if momentum is None else momentum, np.float64)
    if hp.optimizer != "sgd":
        return plain(np.ones_like(alpha))
    fresh = np.where(alpha > 0, 1.0 - hp.dampening, 1.0)
    return plain(fresh / (1.0 - alpha) if hp.decoupled else fresh)


def register_optimizer(
    name: str, classes: Sequence[str] = (), *, decoupled: bool
) -> Callable[[], None]:
    """Make `HyperParameters` know an optimizer, and `from_param_group` the names of its classes.

    Args:
        name: value of `HyperParameters.optimizer`.
        classes: names of the classes whose param groups hold its settings.
        decoupled: whether its weight decay acts on the weights and not through the gradient.

    Returns:
        A function that takes the names out again.

    Raises:
        InvalidArgument: one of the names is known already, and more than its balance law is.
    """
    for what, names, known in (("optimizer", (name,), OPTIMIZERS), ("class", classes, CLASSES)):
        for taken in known.keys() & names:
            if (taken if what == "optimizer" else CLASSES[taken]) not in BALANCE_ONLY - _replaced:
                raise InvalidArgument(
                    f"register_optimizer: the {what} {taken!r} is known already. Choose another "
                    "name, or undo the earlier registration."
                )
    before = {name: OPTIMIZERS.get(name)}, {taken: CLASSES.get(taken) for taken in classes}
    OPTIMIZERS[name] = decoupled
    CLASSES.update(dict.fromkeys(classes, name))
    _replaced.add(name)

    def forget() -> None:
        _replaced.discard(name)
        _restore(OPTIMIZERS, before[0])
        _restore(CLASSES, before[1])

    return forget


Entry = TypeVar("Entry")


def _restore(table: dict[str, Entry], before: Mapping[str, Entry | None]) -> None:
    """Put entries back as they were; None takes one out."""
    for name, entry in before.items():
        if entry is None:
            table.pop(name, None)
        else:
            table[name] = entry
