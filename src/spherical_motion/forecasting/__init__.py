"""Schedule × theory: what a planned run will do, what would help it, and which settings to plan."""

from spherical_motion.forecasting.planning import (
    BatchScaling,
    Setting,
    scale_batch,
    settings_for_angle,
    settings_for_time_constant,
)
from spherical_motion.forecasting.remedies import Remedy, find_remedy
from spherical_motion.forecasting.running import Forecast, forecast
from spherical_motion.forecasting.stages import Outcome, StageForecast
from spherical_motion.forecasting.state import WITHIN, rest_excess

__all__ = [
    "BatchScaling",
    "Forecast",
    "Outcome",
    "Remedy",
    "Setting",
    "StageForecast",
    "WITHIN",
    "find_remedy",
    "forecast",
    "rest_excess",
    "scale_batch",
    "settings_for_angle",
    "settings_for_time_constant",
]
