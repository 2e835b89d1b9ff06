"""Whatever a model is given, gives back and is wrapped in; and the errors when it fails."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spherical_motion.errors import InvalidArgument, ModelError, NoInvariantGroup
from spherical_motion.invariance import call_model, find_groups, inspect_model
from spherical_motion.invariance.reasons.notes import partial_cover
from spherical_motion.invariance.running.calling import unwrapped
from spherical_motion.invariance.running.row_sums import RowSums
from spherical_motion.invariance.search.symmetry import Symmetry
from spherical_motion.vocabulary import Slice
from spherical_motion.vocabulary.groups import strip_wrappers


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))


def x(batch: int = 8) -> torch.Tensor:
    return torch.randn(batch, 4, generator=torch.Generator().manual_seed(1))


def names(model: nn.Module, inputs: Any) -> list[str]:
    return [group.name for group in find_groups(model, inputs)]


class Flexible(nn.Module):
    """Takes its input by position or name and gives it back in the structure asked for."""

    def __init__(self, wrap: Any = lambda y: y) -> None:
        super().__init__()
        self.body = net()
        self.wrap = wrap

    def forward(self, images: Any, scale: float = 1.0, mask: torch.Tensor | None = None) -> Any:
        images = images["pixels"] if isinstance(images, dict) else images
        y = self.body(images * scale)
        return self.wrap(y if mask is None else y * mask)


@dataclasses.dataclass
class Output:
    """A model output as some libraries return it."""

    scores: torch.Tensor
    labels: torch.Tensor


@pytest.mark.parametrize(
    "inputs",
    [
        x(),
        (x(),),
        (x(), 2.0),
        (x(), 1.0, torch.ones(8, 1, dtype=torch.bool)),
        {"images": x()},
        {"images": {"pixels": x()}, "scale": 0.5},
        ({"pixels": x()},),
    ],
    ids=["tensor", "1-tuple", "2-tuple", "3-tuple", "mapping", "nested", "nested tuple"],
)
def test_inputs_of_every_structure(inputs: Any) -> None:
    assert names(Flexible(), inputs) == ["body.0"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, [y.argmax(1)]),
        lambda y: {"logits": y, "cache": None},
        lambda y: {"loss": y.square().mean(), "raw": y},
        lambda y: Output(y, y.argmax(1)),
        lambda y: [{"boxes": y[i], "labels": y[i].long()} for i in range(len(y))],
    ],
    ids=["tuple", "logits", "loss", "dataclass", "list of mappings"],
)
def test_outputs_of_every_structure(wrap: Any) -> None:
    assert names(Flexible(wrap), x()) == ["body.0"]


def test_a_loss_beside_other_outputs_is_what_counts() -> None:
    """The hidden layer beside the loss is not invariant, and nobody trains on it."""

    class WithHidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = self.first(x)
            return {"loss": self.norm(hidden).tanh().sum(), "hidden": hidden}

    assert names(WithHidden(), x()) == ["first"]


def test_call_model_unpacks_as_promised() -> None:
    model = Flexible(lambda y: y.shape)
    assert call_model(model, x()) == call_model(model, (x(), 2.0)) == (8, 2)
    assert call_model(model, {"images": x(), "scale": 2.0}) == (8, 2)


@pytest.fixture
def process_group() -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def compiled(model: nn.Module) -> nn.Module:
    wrapped = torch.compile(model, backend="eager")
    assert isinstance(wrapped, nn.Module)
    return wrapped


@pytest.mark.usefixtures("process_group")
def test_names_are_those_of_the_parameters_without_wrappers() -> None:
    distributed = nn.parallel.DistributedDataParallel
    wrapped = {
        "plain": net(),
        "data parallel": nn.DataParallel(net()),
        "ddp": distributed(net()),
        "compiled": compiled(net()),
        "compiled inside": nn.Sequential(compiled(nn.Sequential(*net()[:2])), nn.Tanh()),
        "ddp of compiled": distributed(compiled(net())),
        "compiled ddp": compiled(distributed(net())),
    }
    for kind, model in wrapped.items():
        assert isinstance(unwrapped(model), nn.Sequential), kind
        (group,) = find_groups(model, x())
        assert group.name == ("0.0" if kind == "compiled inside" else "0"), kind
        own = {strip_wrappers(name): p for name, p in model.named_parameters()}
        assert own[group.slices[0].parameter].shape == (6, 4), kind


def test_a_model_that_fails_is_named_with_its_module_and_shapes() -> None:
    with pytest.raises(ModelError) as caught:
        find_groups(Flexible(), torch.zeros(8, 5))
    message = str(caught.value)
    assert "Flexible failed in module 'body.0' (Linear) on inputs float32[8, 5]" in message
    assert "8x5 and 4x6" in message
    assert "loader" not in message
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_loader_s_pair_is_recognized() -> None:
    pair = (x(), torch.zeros(8, dtype=torch.long))
    with pytest.raises(ModelError, match=r"loader's \(x, y\), pass x alone") as caught:
        find_groups(net(), pair)
    assert "(float32[8, 4], int64[8])" in str(caught.value)


def test_nothing_differentiable_is_an_error() -> None:
    with pytest.raises(ModelError, match="no floating tensor that depends"):
        find_groups(Flexible(lambda y: y.argmax(1)), x())
    with pytest.raises(ModelError, match="no floating tensor that depends"):
        find_groups(nn.Identity(), x())


def test_gradients_that_are_not_finite_are_an_error() -> None:
    model = net()
    nn.init.constant_(model[3].bias, float("nan"))
    with pytest.raises(ModelError, match=r"inf or NaN in 6 of 6 parameters. Check"):
        find_groups(nn.Sequential(*model, nn.Softmax(dim=1)), x())


def test_parameters_without_a_shape_are_an_error() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.BatchNorm1d(3))
    with pytest.raises(ModelError, match=r"without a shape yet \(0.weight, 0.bias\)"):
        find_groups(model, x())
    model(x())
    assert names(model, x()) == ["0"]


def test_nothing_invariant_says_what_was_seen() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(NoInvariantGroup) as caught:
        find_groups(model, x())
    message = str(caught.value)
    assert "3 passes in torch.float64 over 4 parameters" in message
    assert "0.weight: it feeds no norm layer" in message
    assert "smd inspect" in message
    with pytest.raises(NoInvariantGroup, match=r"running statistics.*Call model.train\(\)"):
        find_groups(net().eval(), x())


@pytest.mark.parametrize("bad", ["row", "Layer", None])
def test_an_unknown_granularity_is_an_error(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="'layer', 'filter'"):
        find_groups(net(), x(), bad)


def test_an_unsupported_dtype_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match=r"got torch\.bfloat16"):
        find_groups(net(), x(), dtype=torch.bfloat16)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_too_small_to_normalize_is_an_error(batch: int) -> None:
    with pytest.raises(ModelError, match=r"1.weight: batch_norm .* only .* larger batch"):
        find_groups(net(), x(batch))


def warnings_of(model: nn.Module, inputs: Any) -> str:
    return "\n".join(inspect_model(model, inputs).warnings)


def test_constant_channels_are_reported() -> None:
    constant = torch.cat([x()[:, :3], torch.ones(8, 1)], dim=1)
    model = nn.Sequential(nn.BatchNorm1d(4), *net())
    assert "0.weight: 1 of the 4 sets" in warnings_of(model, constant)
    assert warnings_of(model, x()) == ""


def test_padding_tokens_are_reported() -> None:
    model = nn.Sequential(nn.Embedding(5, 6, padding_idx=0), nn.Linear(6, 6), nn.LayerNorm(6))
    assert "0.weight: the inputs contain its padding_idx=0" in warnings_of(
        model, torch.tensor([[0, 1], [2, 3]])
    )
    assert warnings_of(model, torch.tensor([[4, 1], [2, 3]])) == ""


def test_rows_behind_a_dead_relu_are_left_out_and_reported() -> None:
    class DeadChannel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
            self.mask = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) * self.mask

    found = inspect_model(DeadChannel(), x())
    (group,) = found.groups
    assert [(s.start, s.stop) for s in group.slices] == [(0, 2), (3, 6)]
    assert (len(group.cells), group.numel) == (5, 20)
    (warning,) = found.warnings
    assert warning == (
        "body.0.weight: 1 of 6 rows is in no group; it has a gradient in fewer than 2 of 3 probes, "
        "which is no evidence either way: more or longer inputs may show it."
    )


def test_rows_left_out_are_told_apart_by_their_gradients() -> None:
    class Partly(nn.Module):
        """Of 6 rows 2 pass no norm, and 1 or 2 of the others lead nowhere."""

        def __init__(self, dead: int) -> None:
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 6, bias=False), nn.BatchNorm1d(4)
            self.mask = torch.tensor([float(i >= dead) for i in range(4)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.fc(x)
            return torch.cat([self.norm(y[:, :4]) * self.mask, y[:, 4:].tanh()], dim=1)

    live = r"\|⟨w,g⟩\| / \(‖w‖‖g‖\) is up to (0\.\d+)\."
    (warning,) = inspect_model(Partly(0), x()).warnings
    found = re.fullmatch(rf"fc.weight: 2 of 6 rows are in no group; {live}", warning)
    assert found
    assert 0.0 < float(found[1]) <= 1.0

    (warning,) = inspect_model(Partly(2), x()).warnings
    rare = "have a gradient in fewer than 2 of 3 probes, which is no evidence either way"
    assert re.fullmatch(
        rf"fc.weight: 4 of 6 rows are in no group; 2 of these {rare}: more or longer inputs may "
        rf"show them; of the other 2 {live}",
        warning,
    )


def test_the_number_of_rows_left_out_is_the_largest_of_any_probe() -> None:
    t = np.array([[0.0, 0.1, 0.2], [0.0, 0.3, -0.4], [0.0, 0.0, 0.0]])
    rows = RowSums(t, np.ones((3, 3)), np.ones((3, 3)), entries=4)
    alive = (np.array([True, True, True]),)
    cells = [Symmetry.scale([Slice("w", 0, 0, 1)])]
    assert partial_cover(cells, {"w": alive}, {"w": (rows,)}) == [
        "w: 2 of 3 rows are in no group; |⟨w,g⟩| / (‖w‖‖g‖) is up to 0.4."
    ]
    entire = [Symmetry.scale([Slice("w", 0, 0, 3)])]
    assert partial_cover(entire, {"w": alive}, {"w": (rows,)}) == []


def test_every_parameter_left_out_has_its_reason() -> None:
    class Assorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.normed, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
            self.joint, self.layer_norm = nn.Linear(6, 6), nn.LayerNorm(6)
            self.unused = nn.Linear(3, 3)
            self.head = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.normed(x)).tanh()
            return self.head(self.layer_norm(self.joint(x)).tanh())

    found = inspect_model(Assorted(), x())
    reasons = {u.parameter: u.reason for u in found.uncovered}
    assert [group.name for group in found.groups] == ["normed", "joint"]
    assert "because `norm` removes its shift or scale" in reasons["normed.bias"]
    assert "dead or unused" in reasons["unused.weight"]
    assert "it feeds no norm layer: |⟨w,g⟩| / (‖w‖‖g‖)" in reasons["head.weight"]
    assert "normed.weight" not in reasons
    assert found.coverage == pytest.approx(
        (24 + 42) / sum(p.numel() for p in Assorted().parameters())
    )
