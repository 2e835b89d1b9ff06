from __future__ import annotations

import pytest
import torch

from spherical_motion.errors import InvalidArgument
from spherical_motion.recipes import DigitsRecipe, recipe
from spherical_motion.recipes.digits import load_digits


def test_digits_are_whole_and_split_without_overlap() -> None:
    digits = load_digits()
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 1
    assert torch.bincount(torch.cat([digits.train_labels, digits.test_labels])).min() > 170


def test_training_is_reproducible_and_learns() -> None:
    short = DigitsRecipe(steps=300, milestones=(200,), width=8)
    weights = []
    for _ in range(2):
        model, optimizer, _ = short.build()
        seen: list[int] = []
        accuracy = short.train(model, optimizer, lambda step, scalars, s=seen: s.append(step))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)
    assert accuracy > 0.8  # chance is 0.1; rounding alone moves it by 0.05 so early
    assert seen == list(range(300))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_unknown_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match="Did you mean 'digits'"):
        recipe("digit")
