"""The kinds of events in a run, and the data of each beside time and step."""

from __future__ import annotations

import enum


class EventKind(enum.StrEnum):
    """Kinds that the library records itself; `monitor.event` takes any other word as well.

    A word given there that is one of these gets a trailing underscore, except for the two that
    steering tools record through it, RESCALED and RESCALING_LIMITED.

    A kind is its own word in `events.jsonl`, so `event["kind"] == EventKind.RESUMED` holds for
    events that were read back.

    >>> EventKind.RESUMED == "resumed"
    True
    """

    RESUMED = "resumed"
    """A writer continues a run at this step. segments: per table the number of the next part;
    gives_up: whether what was recorded from this step on was given up, as with `first_step=`;
    param_groups, every, burst, versions, command, commit."""

    CLOSED = "closed"
    """The monitor was closed. steps: the next step of each optimizer."""

    STOPPED = "stopped"
    """The monitor gave up. why: the error."""

    SKIPPED = "skipped"
    """Something was not recorded: a step (why), or a scalar or an event (name, reason)."""

    NOT_MEASURED = "not_measured"
    """A step was taken and counted, but not measured; for the first such step. why."""

    NOT_MERGED = "not_merged"
    """Small parts stayed as they are. reason: the error."""

    NON_FINITE = "non_finite"
    """A slice's weights or step became NaN or infinite. slices: their numbers in the run."""

    NO_PRECONDITIONER = "no_preconditioner"
    """wp and ws are not measured for some parameters; once for each. parameters, why."""

    HAD_STATE = "had_state"
    """Optimizer state of some parameters was there when recording began, so that the first recorded
    step is not their first. parameters."""

    RATE_CHANGED = "rate_changed"
    """A scheduler changed a param group after a steady stretch. optimizer, param_group, lr,
    weight_decay, momentum, lr_before, weight_decay_before."""

    SETTINGS_CHANGED = "settings_changed"
    """A setting that no schedule touches was changed. optimizer, param_group, changed."""

    RESCALED = "rescaled"
    """A steering tool multiplied weights. groups; factor or factors; the tool's own settings."""

    RESCALING_LIMITED = "rescaling_limited"
    """A rescaling stopped short of its factor. groups, factors, wanted, max_defect_after."""

    CORRELATION_SAMPLED = "correlation_sampled"
    """A burst keeps some entries of a group, drawn with replacement, for want of memory. group;
    entries: how many; numel: out of how many; seed."""

    CORRELATION_ENDED = "correlation_ended"
    """A burst ended without a result. group, why."""

    NOT_REPLAYED = "not_replayed"
    """Parts of an audited step could not be replayed; once for each parameter. parameters, why."""

    AUDIT_ENDED = "audit_ended"
    """The audit failed; recording goes on without it. why: the error."""

    NORMS_UNKNOWN = "norms_unknown"
    """An audit does not know which norm layers the parameters feed. why."""

    NOT_STEPPED = "not_stepped"
    """Watched tensors are left behind: the model or the optimizer does not hold them any more, or
    other code moves them and the watched optimizer is not stepped. parameters, why."""

    SECOND_OPTIMIZER = "second_optimizer"
    """Another optimizer steps watched weights between two steps of theirs. parameters, optimizer:
    its class."""
