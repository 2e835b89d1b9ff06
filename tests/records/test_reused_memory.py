"""What a loop gives is recorded as it was then, whatever the loop does with its buffers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spherical_motion.records import RunWriter, read

HOUR = 3600.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(()),
        lambda: np.zeros(1, dtype=np.float32),
        lambda: np.zeros((1, 1), dtype=np.int64),
        lambda: torch.zeros(()),
        lambda: torch.zeros(1, dtype=torch.bfloat16),
        lambda: torch.nn.Parameter(torch.zeros(())).data,
    ],
)
def test_a_buffer_for_scalars(tmp_path, info, make) -> None:
    buffer = make()
    with RunWriter(tmp_path, info, flush_seconds=HOUR) as writer:
        for step in range(5):
            buffer[...] = step
            writer.scalars(step, {"loss": buffer})
    assert read(tmp_path).scalars["loss"].values.tolist() == [0, 1, 2, 3, 4]


def test_a_dictionary_of_scalars(tmp_path, info) -> None:
    values = {"loss": 0.0}
    with RunWriter(tmp_path, info, flush_seconds=HOUR) as writer:
        for step in range(3):
            values["loss"] = step
            writer.scalars(step, values)
        values["late"] = 1.0
    records = read(tmp_path)
    assert records.scalars["loss"].values.tolist() == [0, 1, 2]
    assert list(records.scalars) == ["loss"]


def test_buffers_for_rows_settings_and_cells(tmp_path, info) -> None:
    gram, cells, values = np.zeros((3, 6)), np.zeros((1, 6)), [0.0, 0.0, 0.0, None]
    numbers = np.zeros(3, dtype=np.int32)
    with RunWriter(tmp_path, info, flush_seconds=HOUR) as writer:
        for step in range(3):
            gram[:], cells[:], values[0] = step, 10 * step, 0.1 * (step + 1)
            numbers[:] = [0, 1, 2]
            writer.settings(step, 0, values)
            writer.rows(step, gram, numbers)
            writer.cells(step, 0, cells)
            numbers[:] = -1
    records = read(tmp_path)
    assert records.slice_gram.to_array()[:, 0, 0].tolist() == [0, 1, 2]
    assert records.cells("conv").gram.to_array()[:, 0, 0].tolist() == [0, 10, 20]
    np.testing.assert_allclose(records.lr[:, 0], [0.1, 0.2, 0.3])


def test_nested_data_of_events(tmp_path, info) -> None:
    inner: dict[str, object] = {"list": [0], "array": np.zeros(2), "tensor": torch.zeros(1)}
    data = {"inner": inner, "pair": ([0], {0})}
    with RunWriter(tmp_path, info, flush_seconds=HOUR) as writer:
        for step in range(3):
            inner["list"][0] = step
            inner["array"][:] = step
            inner["tensor"][:] = step
            inner["new"] = step
            data["pair"][0][0] = step
            writer.event("note", step, data=data)
        data.clear()
    found = [event["data"] for event in read(tmp_path).events]
    assert found == [
        {
            "inner": {"list": [s], "array": [s, s], "tensor": [s], "new": s},
            "pair": [[s], [0]],
        }
        for s in range(3)
    ]
