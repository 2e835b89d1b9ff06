"""Small integer relations between the columns of a matrix: linear algebra, no model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LARGEST = 4
"""Relations with larger coefficients are not looked for."""


def integer_relations(columns: NDArray[np.float64], tolerance: float) -> list[tuple[int, ...]]:
    """Independent integer vectors c with `columns @ c` = 0, those of small support first.

    The SVD gives an orthonormal basis of the null space, whose vectors mix all relations. Its
    reduced row echelon form separates them: each vector has a pivot column of its own, so it is the
    only relation between its columns and has minimal support. Which relations come out depends on
    the order of the columns, so both orders are tried.

    Args:
        columns: shape (equations, columns), more equations than columns.
        tolerance: singular values below this share of the largest count as zero.

    >>> a, b = np.random.default_rng(0).normal(size=(2, 9))
    >>> integer_relations(np.stack([a, b, a + b, 2 * b], axis=1), 1e-9)
    [(0, 2, 0, -1), (1, 1, -1, 0)]
    """
    lengths = np.linalg.norm(columns, axis=0)
    lengths[lengths == 0.0] = 1.0
    scaled = columns / lengths
    # Rows and columns get unit length, so that one tolerance fits equations of any scale.
    heights = np.linalg.norm(scaled, axis=1, keepdims=True)
    scaled = scaled / np.where(heights > 0.0, heights, 1.0)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    null = right[singular <= tolerance * singular[0]]
    if not len(null):
        return []
    candidates: list[tuple[int, ...]] = []
    for basis in (_reduced(null), _reduced(null[:, ::-1])[:, ::-1]):
        vectors = (_as_integers(vector / lengths, lengths, tolerance) for vector in basis)
        candidates += [v for v in vectors if v is not None]
    candidates.sort(key=lambda v: (_unequal(v), sum(c != 0 for c in v), sum(map(abs, v))))
    kept: list[tuple[int, ...]] = []
    for vector in candidates:
        if np.linalg.matrix_rank(np.array([*kept, vector])) > len(kept):
            kept.append(vector)
    return kept


def _unequal(vector: tuple[int, ...]) -> bool:
    """Whether all coefficients have one sign but not one size: such a relation is often a sum of
    simpler ones.
    """
    values = {c for c in vector if c}
    return min(values) > 0 and len(values) > 1


def _reduced(basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduced row echelon form with partial pivoting, pivots as far left as possible."""
    rows = basis.copy()
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        best = done + int(np.abs(rows[done:, column]).argmax())
        if abs(rows[best, column]) < 1e-5:
            continue
        rows[[done, best]] = rows[[best, done]]
        rows[done] /= rows[done, column]
        others = np.arange(len(rows)) != done
        rows[others] -= np.outer(rows[others, column], rows[done])
        done += 1
    return rows[:done]


def _as_integers(
    vector: NDArray[np.float64], lengths: NDArray[np.float64], tolerance: float
) -> tuple[int, ...] | None:
    """The same direction in small integers, the first positive; None if there are none."""
    weight = np.abs(vector) * lengths
    support = weight > max(1e-4, 10 * tolerance) * weight.max()
    vector = np.where(support, vector, 0.0)
    if support.sum() < 2:
        return None
    vector = vector / np.abs(vector[support]).min() * np.sign(vector[support][0])
    for multiple in range(1, LARGEST):
        rounded = np.rint(multiple * vector)
        if np.abs(rounded).max() > LARGEST:
            return None
        if np.abs(multiple * vector - rounded).max() <= max(1e-4, 10 * tolerance):
            integers = [int(c) for c in rounded]
            divisor = math.gcd(*integers)
            return tuple(c // divisor for c in integers)
    return None
