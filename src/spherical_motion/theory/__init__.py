"""Closed forms of the motion, without torch. In: settings and `GroupFacts`. Out: numbers."""

from spherical_motion.theory.adaptive import (
    autocorrelation,
    correlation_sum,
    largest_correlation_sum,
    lion_correlation,
    lion_factor,
    updates_between,
)
from spherical_motion.theory.balance_by_step import balance_steps
from spherical_motion.theory.balance_law import BalanceLaw, BalanceSteps
from spherical_motion.theory.balance_over_window import Balance, balance, boundary_error
from spherical_motion.theory.driven import driven_norm, driven_step_ratio_sq
from spherical_motion.theory.equilibrium import (
    balance_terms,
    equilibrium_angle,
    equilibrium_angle_approx,
    equilibrium_norm,
    equilibrium_norm_approx,
    equilibrium_step_ratio,
)
from spherical_motion.theory.families import family_of, law_of, register
from spherical_motion.theory.family import Family
from spherical_motion.theory.group import GroupFacts
from spherical_motion.theory.motion import has_law_of_motion, law_of_motion_residual
from spherical_motion.theory.published.assumptions import (
    AssumptionCheck,
    DriveStatistics,
    check_assumptions,
    drive_statistics,
)
from spherical_motion.theory.published.bounds import (
    AngleBound,
    angle_bound,
    angle_floor,
    angle_tolerance,
    bound_constant,
    burn_in_steps,
    minimal_steps_after_drop,
    minimal_steps_without_momentum,
    narrowest_minimum,
    norm_bound,
    relative_gradient_at_rest,
)
from spherical_motion.theory.published.effective import (
    ImageStep,
    adam_moment_on_sphere,
    effective_learning_rate,
    image_step,
)
from spherical_motion.theory.published.exponential import (
    ExponentialRates,
    RecentredSchedule,
    exponential_schedule,
    fixed_exponential_schedule,
    tapered_exponential_bound,
    tapered_exponential_schedule,
)
from spherical_motion.theory.published.growth import (
    exponential_log_scale,
    growth_rate,
    growth_rate_approx,
    growth_root,
    log_growth_rate,
    steps_to_overflow,
    steps_to_overflow_approx,
)
from spherical_motion.theory.published.inverse_exponential import (
    DecayedSchedule,
    equivalent_weight_decay,
    undo_exponential_schedule,
)
from spherical_motion.theory.published.radius import (
    effective_rate_flow,
    effective_rate_recursion,
    radius_ratio_on_sphere,
    radius_sq_after,
    radius_sq_by_taylor,
    taylor_variables,
    undecayed_norm_sq,
)
from spherical_motion.theory.published.toy import (
    escape_bound,
    narrowest_well,
    toy_decayed_norm,
    toy_normalized_angle,
    toy_resting_angle,
    toy_unit_grad_sq,
)
from spherical_motion.theory.settings import damped_lr
from spherical_motion.theory.transient import (
    angle_at_excess,
    excess_after_drop,
    excess_of,
    norm_fourth,
    relaxation_rate,
    relaxed_excess,
    relaxing_power,
    sde_gamma,
    steps_to_equilibrium,
    steps_to_within,
)
from spherical_motion.theory.travel import (
    accumulated_angle,
    accumulated_angle_approx,
    forgetting_rate,
)
from spherical_motion.theory.update_rule import UpdateRule
from spherical_motion.theory.with_pull import (
    angle_of_step,
    pulled_angle,
    pulled_angle_interval,
    pulled_norm,
    radial_share,
    steps_to_rest_with_pull,
)

ExponentialSchedule = ExponentialRates
"""The earlier name of `ExponentialRates`."""

__all__ = [
    "AngleBound",
    "AssumptionCheck",
    "Balance",
    "BalanceLaw",
    "BalanceSteps",
    "DecayedSchedule",
    "DriveStatistics",
    "ExponentialRates",
    "ExponentialSchedule",
    "Family",
    "GroupFacts",
    "ImageStep",
    "RecentredSchedule",
    "UpdateRule",
    "accumulated_angle",
    "accumulated_angle_approx",
    "adam_moment_on_sphere",
    "angle_at_excess",
    "angle_bound",
    "angle_floor",
    "angle_of_step",
    "angle_tolerance",
    "autocorrelation",
    "balance",
    "balance_steps",
    "balance_terms",
    "bound_constant",
    "boundary_error",
    "burn_in_steps",
    "check_assumptions",
    "correlation_sum",
    "damped_lr",
    "drive_statistics",
    "driven_norm",
    "driven_step_ratio_sq",
    "effective_learning_rate",
    "effective_rate_flow",
    "effective_rate_recursion",
    "equilibrium_angle",
    "equilibrium_angle_approx",
    "equilibrium_norm",
    "equilibrium_norm_approx",
    "equilibrium_step_ratio",
    "equivalent_weight_decay",
    "escape_bound",
    "excess_after_drop",
    "excess_of",
    "exponential_log_scale",
    "exponential_schedule",
    "family_of",
    "fixed_exponential_schedule",
    "forgetting_rate",
    "growth_rate",
    "growth_rate_approx",
    "growth_root",
    "has_law_of_motion",
    "image_step",
    "largest_correlation_sum",
    "law_of",
    "law_of_motion_residual",
    "lion_correlation",
    "lion_factor",
    "log_growth_rate",
    "minimal_steps_after_drop",
    "minimal_steps_without_momentum",
    "narrowest_minimum",
    "narrowest_well",
    "norm_bound",
    "norm_fourth",
    "pulled_angle",
    "pulled_angle_interval",
    "pulled_norm",
    "radial_share",
    "radius_ratio_on_sphere",
    "radius_sq_after",
    "radius_sq_by_taylor",
    "register",
    "relative_gradient_at_rest",
    "relaxation_rate",
    "relaxed_excess",
    "relaxing_power",
    "sde_gamma",
    "steps_to_equilibrium",
    "steps_to_overflow",
    "steps_to_overflow_approx",
    "steps_to_rest_with_pull",
    "steps_to_within",
    "tapered_exponential_bound",
    "tapered_exponential_schedule",
    "taylor_variables",
    "toy_decayed_norm",
    "toy_normalized_angle",
    "toy_resting_angle",
    "toy_unit_grad_sq",
    "undecayed_norm_sq",
    "undo_exponential_schedule",
    "updates_between",
]
