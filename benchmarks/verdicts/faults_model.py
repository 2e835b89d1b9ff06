"""Faults of norm layers, of number formats, and of what the optimizer and the model hold."""

from __future__ import annotations

import torch
from torch import nn

from verdicts.fault import ADAMS, ANY, make_fault
from verdicts.faults_gradients import gentle
from verdicts.loop import INVARIANT, Loop
from verdicts.nets import Task

__all__ = []

COMMON = ("momentum", "AdamW", "SGD", "Lion", "Adam")
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def normed(task: Task) -> bool:
    return task.norms


def differs_in_eval(task: Task) -> bool:
    return task.eval_mode


def norm_layers(loop: Loop) -> list[nn.Module]:
    return [m for m in loop.model.modules() if isinstance(m, NORMS)]


def upstream(loop: Loop) -> set[str]:
    """All parameters in front of a norm layer: those of the last linear layer are not."""
    last = [n for n, m in loop.model.named_modules() if isinstance(m, nn.Linear)][-1]
    return {name for name in loop.parameters if not name.startswith(f"{last}.")}


@make_fault("norm ε 0.1", "norm", "EPSILON", COMMON, needs=normed)
def epsilon(loop: Loop) -> None:
    """All norm layers have ε 0.1."""
    loop.affected = upstream(loop)
    for norm in norm_layers(loop):
        norm.eps = 0.1


@make_fault("norm ε 10", "norm", "EPSILON", COMMON, needs=normed)
def large_epsilon(loop: Loop) -> None:
    """All norm layers have ε 10."""
    loop.affected = upstream(loop)
    gentle(loop, 0.1)
    for norm in norm_layers(loop):
        norm.eps = 10.0


@make_fault(
    "ε 10 in one norm",
    "norm",
    "EPSILON",
    COMMON,
    needs=lambda task: task.key != "gpt" and task.norms,
)
def one_epsilon(loop: Loop) -> None:
    """One norm layer has ε 10."""
    loop.affected = {loop.task.layer, loop.task.before}
    norm_layers(loop)[1].eps = 10.0


@make_fault("one norm in eval mode", "norm", "EVAL_MODE", ANY, needs=differs_in_eval)
@make_fault(
    "one norm in eval mode, later", "norm", "EVAL_MODE", COMMON, begins=400, needs=differs_in_eval
)
def eval_mode(loop: Loop) -> None:
    """One batch norm is frozen with `norm.eval()`."""
    loop.affected = {loop.task.layer, loop.task.before}
    norm, usual = norm_layers(loop)[1], loop.backward

    def backward() -> None:
        if loop.began:
            norm.eval()
        usual()

    loop.backward = backward


@make_fault(
    "model left in eval mode",
    "norm",
    "EVAL_MODE NON_FINITE",
    COMMON,
    begins=600,
    needs=differs_in_eval,
)
def model_in_eval(loop: Loop) -> None:
    """After a validation in the middle of the run nobody calls `model.train()`."""
    loop.affected = {INVARIANT}

    @loop.after_update
    def validate() -> None:
        loop.model.eval()


@make_fault(
    "bf16 weights at a small rate", "wiring", "LOST_PRECISION", ("momentum", "AdamW", "SGD", "Lion")
)
def bf16(loop: Loop) -> None:
    """The whole model is in bfloat16, and the steps are below the spacing of its weights."""
    loop.model.to(torch.bfloat16)
    loop.parameters = dict(loop.model.named_parameters())
    usual = loop.loss

    def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        first = batch[0]
        inputs = first.bfloat16() if first.is_floating_point() else first
        return usual(model, (inputs, *batch[1:]))

    loop.loss = loss
    loop.optimizer_settings = {"lr": 0.01 * loop.task.net.lr[loop.maker.rate]}


@make_fault("parameter replaced", "wiring", "NOT_STEPPED", COMMON, begins=600)
def replaced(loop: Loop) -> None:
    """One layer gets a new `nn.Parameter`; the optimizer still holds the old one."""
    name = loop.task.layer
    loop.layer()

    @loop.after_update
    def replace() -> None:
        if loop.step == loop.begins:
            module = loop.model.get_submodule(name.rpartition(".")[0])
            module.weight = nn.Parameter(module.weight.detach().clone())


@make_fault("parameter replaced at once", "wiring", "NOT_STEPPED", COMMON, begins=0)
def replaced_at_once(loop: Loop) -> None:
    """Weights are loaded as new parameters just after the optimizer was made and watched."""
    replaced(loop)


@make_fault("optimizer replaced", "wiring", "NOT_STEPPED", (*ADAMS, "momentum", "Lion"), begins=600)
def optimizer_replaced(loop: Loop) -> None:
    """A new optimizer takes over in the middle of the run, and nobody tells the monitor."""

    @loop.after_update
    def replace() -> None:
        if loop.step == loop.begins:
            loop.optimizers = loop.make_optimizers()
