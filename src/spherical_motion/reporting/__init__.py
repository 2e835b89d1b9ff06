"""Draws a comparison as one offline HTML file; measures, predicts and judges nothing itself.

Needs the extra `report` (Bokeh and Jinja), imported when a report is made. Importing this room
also teaches notebooks to show a `Comparison` as a table.
"""

from spherical_motion.comparison import Comparison
from spherical_motion.reporting.html import render, table_html, write_report
from spherical_motion.reporting.writing import report

__all__ = ["render", "report", "table_html", "write_report"]

setattr(Comparison, "_repr_html_", table_html)  # noqa: B010 - not a declared attribute
