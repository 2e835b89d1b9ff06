"""The weight of growth in each optimizer's law, and the change that a readable law leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from driven_weights import leaning, products

from spherical_motion import theory
from spherical_motion.vocabulary import Gram, HyperParameters

LAWS = {
    "heavy ball": HyperParameters("sgd", lr=0.1, momentum=0.8),
    "Nesterov": HyperParameters("sgd", lr=0.1, momentum=0.8, nesterov=True),
    "decoupled": HyperParameters("sgd", lr=0.1, momentum=0.8, decoupled=True),
    "AdamW": HyperParameters("adamw", lr=0.1, betas=(0.8, 0.99)),
    "Adam": HyperParameters("adam", lr=0.1, betas=(0.8, 0.99)),
    "RMSprop": HyperParameters("rmsprop", lr=0.1, momentum=0.8, beta2=0.99),
    "NAdam": HyperParameters("nadam", lr=0.1, betas=(0.8, 0.99)),
    "Muon": HyperParameters("muon", lr=0.1, momentum=0.8),
}
COUNT = 300
TOLD = {"steps": np.arange(COUNT), "lr": 0.1, "weight_decay": 0.02, "momentum": 0.8}


@pytest.mark.parametrize("name", LAWS)
def test_growth_is_its_share_of_the_change_of_the_norm(name: str) -> None:
    hp = LAWS[name]
    stepped = HyperParameters("sgd", lr=0.1, momentum=0.8) if name == "Muon" else hp
    gram = products(stepped, [(0.1, 0.02, 0.8)] * COUNT, leaning(radial=-0.02))
    sides = theory.balance_steps(hp, gram, first_step=0, correlation=7.0, **TOLD)
    grown = 2.0 * gram.wd + gram.dd
    # Of the sum over the window only the growth of the last step is still to be carried on.
    ends = 0.9 * abs(grown[-1])
    share = sides.growth_share
    assert sides.growth.sum() == pytest.approx((share * grown).sum(), abs=ends + 1e-12)
    assert abs((share * grown).sum()) > 2.0 * ends
    f, s = theory.law_of(hp).form(hp, theory.GroupFacts(correlation=7.0))
    if name == "NAdam":
        # μ grows from β1/2 to β1.
        assert (share > f * s).all()
        assert (np.diff(share) < 0).all()
    elif name in ("heavy ball", "Adam", "RMSprop", "Muon"):
        np.testing.assert_allclose(share, f * s, rtol=1e-12)


@pytest.mark.parametrize("measured", ["seven products", "eight products"])
def test_nadam_does_not_call_what_it_neglects_zero(measured: str) -> None:
    hp = LAWS["NAdam"]
    gram = products(hp, [(0.1, 0.02, 0.8)] * COUNT, leaning())
    array = gram.to_array(("ww", "wd", "dd", "wg", "gg", "dg", "wp", "ws"))
    array[:, 7] = 0.1 if measured == "eight products" else np.nan
    gram = Gram.from_array(array)
    assert np.isnan(theory.balance_steps(hp, gram, **TOLD).change).all()
    found = theory.balance(hp, gram, **TOLD)
    assert found.unknown == ""
    assert found.neglects.startswith("the change of the preconditioner")
    fast = HyperParameters("nadam", lr=0.1, betas=(0.8, 0.95))
    refused = theory.balance(fast, gram, **TOLD)
    assert "beta2=0.95" in refused.unknown
    assert "products=8" not in refused.unknown  # it would not help


def test_what_knows_no_preconditioner_has_no_change_of_one() -> None:
    hp = LAWS["Muon"]
    gram = products(LAWS["heavy ball"], [(0.1, 0.02, 0.8)] * COUNT, leaning())
    assert not theory.balance_steps(hp, gram, correlation=7.0, **TOLD).change.any()
