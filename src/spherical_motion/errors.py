"""The errors that this library raises on purpose, and its two warnings.

    SphericalMotionError
    ├── InvalidArgument        (ValueError)    a value the caller passed cannot be used
    │   └── OutOfDomain                        ... because a formula does not hold there
    ├── NoTheory               (LookupError)   no closed form for this optimizer
    ├── ModelError             (RuntimeError)  the model cannot be probed on these inputs
    │   └── NoInvariantGroup                   ... it runs, but no weight is scale-invariant
    ├── AlreadyAttached        (RuntimeError)  something watches or steers the optimizer already
    ├── RunDirectoryError      (OSError)       a run directory cannot be used
    │   ├── RunExists                          ... it holds a run, and resume is not set
    │   ├── RunInUse                           ... another process is writing to it
    │   └── NotARun                            ... it holds no run, or one of an unknown version
    └── MissingExtra           (ImportError)   an optional dependency is not installed

    StateNotRestored           (UserWarning)   a probe could not put back something the model holds
    RecordingStopped           (UserWarning)   recording failed and has stopped; training goes on

A message names the place, what was expected, what was found, and what to do.
"""

__all__ = [
    "AlreadyAttached",
    "InvalidArgument",
    "MissingExtra",
    "ModelError",
    "NoInvariantGroup",
    "NoTheory",
    "NotARun",
    "OutOfDomain",
    "RecordingStopped",
    "RunDirectoryError",
    "RunExists",
    "RunInUse",
    "SphericalMotionError",
    "StateNotRestored",
]


class SphericalMotionError(Exception):
    """Base class: `except smd.SphericalMotionError` catches all of them and nothing else."""


class InvalidArgument(SphericalMotionError, ValueError):
    """A value the caller passed cannot be used."""


class OutOfDomain(InvalidArgument):
    """A value lies outside the range in which a formula holds."""


class NoTheory(SphericalMotionError, LookupError):
    """There is no closed form for this optimizer or setting."""


class ModelError(SphericalMotionError, RuntimeError):
    """The model cannot be probed on these inputs."""


class NoInvariantGroup(ModelError):
    """The model runs, but none of its weights is scale-invariant."""


class AlreadyAttached(SphericalMotionError, RuntimeError):
    """Something else watches or steers this optimizer."""


class RunDirectoryError(SphericalMotionError, OSError):
    """A run directory cannot be used."""


class RunExists(RunDirectoryError):
    """The directory already holds a run, and `resume=True` is not set."""


class RunInUse(RunDirectoryError):
    """Another live process is writing to this run."""


class NotARun(RunDirectoryError):
    """The directory holds no run, or one written by an unknown version."""


class MissingExtra(SphericalMotionError, ImportError):
    """A required optional dependency is not installed."""


class RecordingStopped(UserWarning):
    """Recording failed, for example on a full disk, and has stopped; training goes on."""


class StateNotRestored(UserWarning):
    """An object that the model holds could not be restored after a probe."""
