"""How evidence is written in sentences: steps, sizes, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spherical_motion.notices import listed

STEPS_NAMED = 3
"""Only so many steps are named."""

SETTING_NAMES: Mapping[str, str] = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "momentum": "momentum",
}
"""A setting's field and its name."""


def steps_text(steps: Sequence[int], total: int) -> str:
    """The first few of `total` steps.

    >>> steps_text((200, 400, 600, 800), 10), steps_text((7,), 1)
    ('steps 200, 400, 600, ...', 'step 7')
    """
    named = ", ".join(f"{step:,}" for step in steps[:STEPS_NAMED])
    more = ", ..." if total > min(len(steps), STEPS_NAMED) else ""
    return f"step{'s' if total > 1 else ''} {named}{more}"


def apart(value: float, other: float) -> str:
    """A number with as many digits as tell it from another.

    >>> apart(0.003, 0.1), apart(0.003, 0.00300004)
    ('0.003', '0.003')
    >>> apart(0.00300004, 0.003)
    '0.00300004'
    """
    digits = (d for d in range(4, 18) if f"{value:.{d}g}" != f"{other:.{d}g}")
    return f"{value:.{next(digits, 4)}g}"


def percent(share: float) -> str:
    """The size of a share as a percentage with two digits.

    >>> percent(0.0042), percent(-0.25), percent(5.55)
    ('0.42%', '25%', '555%')
    """
    size = 100.0 * abs(share)
    return f"{size:.2g}%" if size < 99.5 else f"{size:,.0f}%"


def part_of(share: float) -> str:
    """The size of a share before the name of its whole; from 2 on as a multiple.

    >>> part_of(0.0042), part_of(-0.25), part_of(-5.55)
    ('0.42% of', '25% of', '5.5 times')
    """
    size = abs(share)
    if size < 2.0:
        return f"{percent(share)} of"
    return f"{size:.2g} times" if size < 99.5 else f"{size:,.0f} times"


def settings_text(values: Mapping[str, float]) -> str:
    """Settings by the names of their fields, as a list.

    >>> settings_text({"lr": 0.1, "momentum": 0.85})
    'learning rate 0.1, momentum 0.85'
    """
    return ", ".join(
        f"{SETTING_NAMES.get(name, name)} {value:.4g}" for name, value in values.items()
    )


def names_text(names: Iterable[str]) -> str:
    """Names of settings as a list.

    >>> names_text(("lr", "momentum"))
    'learning rate and momentum'
    """
    return " and ".join(SETTING_NAMES.get(name, name) for name in names)


def layers_text(layers: Sequence[tuple[str, float | None]]) -> str:
    """Norm layers with their ε, after the word "norm".

    >>> layers_text([]), layers_text([("bn1", 0.1)]), layers_text([("a", 1e-5), ("b", None)])
    ('layer', 'layer bn1 (ε = 0.1)', 'layers a (ε = 1e-05) and b')
    """
    named = [name if eps is None else f"{name} (ε = {eps:g})" for name, eps in layers]
    if not named:
        return "layer"
    return f"{'layers' if len(named) > 1 else 'layer'} {listed(named, STEPS_NAMED)}"
