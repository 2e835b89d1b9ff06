"""What draws the weights inward: <w, Px> where it follows from the rows, and the decay in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spherical_motion.records.info import RunInfo
from spherical_motion.vocabulary import HyperParameters
from spherical_motion.vocabulary.hyperparameters import pull_scale

Array = NDArray[np.float64]


def pull_of_slice(
    hp: HyperParameters, ww: Array, wg: Array, stored: Array | None, decay: Callable[[], Array]
) -> Array | None:
    """wp = <w, Px> of a slice: as stored, or as the other products give it; None if unknown.

    For SGD the preconditioner is 1 and x = g + λw, so wp = wg + λ·ww, or wg where the decay is
    decoupled.

    Args:
        hp: its settings when recording began.
        ww, wg: its products, shape (steps,).
        stored: wp where it was recorded, NaN elsewhere; None if it never was.
        decay: gives its weight decay, shape (steps,).
    """
    if hp.optimizer != "sgd":
        return stored
    derived = wg if hp.decoupled else wg + decay() * ww
    return derived if stored is None else np.where(np.isnan(stored), derived, stored)


def decoupled_decay(info: RunInfo, decay: Array) -> Array:
    """δ of each slice: its weight decay, shape (steps, slices), where it acts on the weights."""
    decoupled = np.array([bool(hp.decoupled) for hp in hyperparameters_of_slices(info)])
    return np.where(decoupled, decay, 0.0)


def decay_in_pull(info: RunInfo, decay: Array, momentum: Array) -> Array:
    """The part of each slice's pull that is its weight decay, (steps, slices); NaN if unknown.

    It is unknown where decay passes a preconditioner: its share of <w, Px> is λ<w, Pw>, which is
    not among the products.
    """
    part = np.full(decay.shape, np.nan)
    for hp, slices in _alike(info).items():
        own = decay[:, slices]
        if hp.decoupled:
            part[:, slices] = own
        elif hp.optimizer == "sgd":
            part[:, slices] = own * pull_scale(hp, momentum[:, slices])
        else:
            part[:, slices] = np.where(own == 0, 0.0, np.nan)
    return part


def scales(info: RunInfo, main_slices: tuple[int, ...], momentum: Array) -> Array:
    """The factor c of each group's pull, shape (steps, groups), from that of its main slice."""
    settings = hyperparameters_of_slices(info)
    own = [settings[i] for i in main_slices]
    found = np.ones(momentum.shape)
    for hp in set(own):
        columns = np.array([other == hp for other in own])
        found[:, columns] = pull_scale(hp, momentum[:, columns])
    return found


def hyperparameters_of_slices(info: RunInfo) -> tuple[HyperParameters, ...]:
    """The settings of the optimizer for each slice when recording began."""
    of_group = {
        param_group: HyperParameters.from_param_group(told["class"], told)
        for param_group, told in enumerate(info.param_groups)
    }
    return tuple(of_group[i] for i in info.slice_param_group)


def _alike(info: RunInfo) -> dict[HyperParameters, list[int]]:
    """The slices by their settings."""
    found: dict[HyperParameters, list[int]] = {}
    for i, hp in enumerate(hyperparameters_of_slices(info)):
        found.setdefault(hp, []).append(i)
    return found
