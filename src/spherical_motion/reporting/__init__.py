"""Draw a comparison as one offline HTML file; nothing is measured, predicted or judged here.

In: a `Comparison`. Out: HTML. Making a report imports the extra `report` (Bokeh and
Jinja). Once this room is imported, notebooks show a `Comparison` as a table.
"""

from spherical_motion.comparison import Comparison
from spherical_motion.reporting.html import render, report, table_html, write_report
from spherical_motion.reporting.norm_page import NormPanel, write_norm_page

__all__ = ["NormPanel", "render", "report", "table_html", "write_norm_page", "write_report"]

setattr(Comparison, "_repr_html_", table_html)  # noqa: B010 - not a declared attribute
