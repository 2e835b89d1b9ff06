"""<w, Px>, pull, decay share and growth of a recorded run, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from spherical_motion import sphere
from spherical_motion.records import RunInfo, RunWriter, read
from spherical_motion.vocabulary import InvariantGroup, Slice

SGD = {"class": "SGD", "optimizer": 0, "lr": 0.1, "weight_decay": 0.01, "momentum": 0.5}
ADAM = {"class": "Adam", "optimizer": 0, "lr": 0.1, "weight_decay": 0.01, "betas": [0.9, 0.99]}

CASES = {
    "sgd": (SGD, 1.0, "coupled"),
    "sgd without momentum": (SGD | {"momentum": 0.0, "dampening": 0.0}, 1.0, "coupled"),
    "sgd with dampening": (SGD | {"dampening": 0.25}, 0.75, "coupled"),
    "nesterov": (SGD | {"nesterov": True}, 1.0, "coupled"),
    "sgd, decoupled": (SGD | {"decoupled_weight_decay": True}, 2.0, "decoupled"),
    "adam with l2": (ADAM, 1.0, "unknown"),
    "adam without decay": (ADAM | {"weight_decay": 0.0}, 1.0, "none"),
    "adamw": (ADAM | {"class": "AdamW"}, 1.0, "decoupled"),
    "adam, decoupled": (ADAM | {"decoupled_weight_decay": True}, 1.0, "decoupled"),
    "rmsprop": (SGD | {"class": "RMSprop"}, 1.0, "unknown"),
}


def record(directory, told, products, gram, decays=(None, None)):
    """Two layers, the second of two slices; `decays` of its slices, None for that of `told`."""
    a, b, c = (Slice(f"{name}.weight", 0, 0, 4) for name in "abc")
    groups = (
        InvariantGroup("first", "scale", (a,), ((a,),), 4),
        InvariantGroup("second", "scale", (b, c), ((b, c),), 8),
    )
    info = RunInfo(
        groups=groups,
        param_groups=(told, told, told),
        slice_param_group=(0, 1, 2),
        products=products,
    )
    decays = [told["weight_decay"] if d is None else d for d in (None, *decays)]
    momentum = told.get("momentum", 0.9)
    with RunWriter(directory, info) as writer:
        for step, rows in enumerate(gram):
            for group, decay in enumerate(decays):
                writer.settings(step, group, (0.1, decay * (1 + step), momentum, None))
            writer.rows(step, rows[:, :products])
    return read(directory), np.outer(1 + np.arange(len(gram)), decays)


@pytest.fixture
def gram(rng):
    """(steps, 3, 8) products; <w, Px> inward at most steps."""
    w, d, g = rng.normal(size=(3, 6, 3, 5))
    pairs = ((w, w), (w, d), (d, d), (w, g), (g, g), (d, g))
    six = [(x * y).sum(-1) for x, y in pairs]
    wp, ws = six[0] * rng.normal(0.02, 0.01, size=six[0].shape), rng.normal(size=six[0].shape)
    return np.stack([*six, wp, ws], axis=-1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("products", [6, 7, 8])
def test_pull_and_decay_share_are_the_sums_over_the_slices(tmp_path, gram, name, products):
    told, scale, kind = CASES[name]
    records, decay = record(tmp_path, told, products, gram, decays=(0.0, None))
    sgd = told["class"] == "SGD"
    for column, members in enumerate(((0,), (1, 2))):
        for step in range(len(gram)):
            size = sum(gram[step, i, 0] for i in members)
            inward = share = 0.0
            for i in members:
                ww, wg = gram[step, i, 0], gram[step, i, 3]
                own = decay[step, i]
                if products >= 7:
                    wp = gram[step, i, 6]
                elif sgd:
                    wp = wg + (own * ww if kind == "coupled" else 0.0)
                else:
                    wp = np.nan
                inward += scale * wp + (own * ww if kind == "decoupled" else 0.0)
                if own and kind == "unknown":
                    share = np.nan
                share += own * ww * (scale if kind == "coupled" else 1.0)
            pull = inward / size
            np.testing.assert_allclose(records.pull()[step, column], pull, rtol=1e-9)
            expected = share / size / pull if pull > 0 else np.nan
            np.testing.assert_allclose(records.decay_share()[step, column], expected, rtol=1e-9)


def test_growth_is_that_of_the_squared_norm(tmp_path, gram):
    records, _ = record(tmp_path, SGD, 6, gram)
    grown = records.norm_after() ** 2 / records.norm() ** 2 - 1
    np.testing.assert_allclose(records.growth(), grown, rtol=1e-9)


def test_stored_products_are_read_as_stored(tmp_path, gram):
    records, _ = record(tmp_path, ADAM, 8, gram)
    np.testing.assert_array_equal(records.slice_gram.wp, gram[..., 6])
    np.testing.assert_array_equal(records.slice_gram.ws, gram[..., 7])
    np.testing.assert_array_equal(records.gram.wp[:, 1], gram[:, 1, 6] + gram[:, 2, 6])
    names = "step group ww wd dd wg gg dg wp ws lr weight_decay momentum beta2"
    table = records.to_arrow()
    assert table.column_names == names.split()
    np.testing.assert_array_equal(table["ws"].to_numpy()[::2], gram[:, 0, 7])


def test_what_sgd_did_not_store_follows_and_what_it_stored_counts(tmp_path, gram):
    gram[::2, :, 6] = np.nan
    records, decay = record(tmp_path, SGD, 7, gram)
    derived = gram[..., 3] + decay * gram[..., 0]
    np.testing.assert_array_equal(records.slice_gram.wp[::2], derived[::2])
    np.testing.assert_array_equal(records.slice_gram.wp[1::2], gram[1::2, :, 6])
    assert records.to_arrow().column_names[7:9] == ["dg", "wp"]


def test_what_is_unknown_takes_no_memory(tmp_path, gram):
    records, _ = record(tmp_path, ADAM, 6, gram)
    for products in (records.gram, records.slice_gram):
        assert np.isnan(products.wp).all()
        assert products.wp.strides == products.ws.strides == (0, 0)
    assert np.isnan(records.pull()).all()
    assert np.isnan(records.decay_share()).all()


def test_at_rest_the_decay_of_sgd_is_the_whole_pull(tmp_path):
    """A gradient across the weights does not pull: p = λ, and its share is 1."""
    gram = np.tile([4.0, -0.1, 0.2, 0.0, 1.0, -0.1, np.nan, np.nan], (5, 3, 1))
    records, _ = record(tmp_path, SGD, 6, gram)
    np.testing.assert_allclose(records.pull(), np.outer(1 + np.arange(5), [0.01, 0.01]))
    np.testing.assert_allclose(records.decay_share(), 1.0)
    np.testing.assert_array_equal(records.pull(), sphere.pull(records.gram))
