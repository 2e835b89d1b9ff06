"""One HTML file that draws a comparison and needs nothing else: no network, no server."""

from __future__ import annotations

import os
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from spherical_motion.comparison import Comparison, compare
from spherical_motion.errors import InvalidArgument
from spherical_motion.records import Records
from spherical_motion.reporting import facts, selection, wording, writing
from spherical_motion.reporting.lines import collect_lines, common_stages, scalar_lines
from spherical_motion.vocabulary import Tone, VerdictKind

if TYPE_CHECKING:
    import jinja2


def write_report(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the report to `path`, whole or not at all, and return the path.

    Missing parent directories are made; an existing file is replaced.

    Raises:
        InvalidArgument: `path` is a directory.
        MissingExtra: Bokeh or Jinja is not installed.

    >>> write_report(comparison, "report.html")                             # doctest: +SKIP
    PosixPath('report.html')
    """
    target = writing.page_file("write_report", path, "report.html")
    return writing.write_page(target, render(comparison))


def report(
    run: str | os.PathLike[str] | Records | Comparison, path: str | os.PathLike[str] | None = None
) -> Path:
    """Draw a recorded run beside the theory as one HTML file that needs no network.

    Args:
        run: a run directory, `Records` already read, or a `Comparison` already made.
        path: where to write; left out, `report.html` in the run directory, if that is local.

    Returns:
        Where it was written.

    Raises:
        NotARun: the directory holds no run.
        InvalidArgument: the run is not on a local disk, and `path` is left out.
        MissingExtra: Bokeh or Jinja is not installed (`pip install 'spherical-motion[report]'`).
    """
    comparison = run if isinstance(run, Comparison) else compare(run)
    if path is None:
        if not isinstance(comparison.directory, Path):
            raise InvalidArgument(
                f"report(path=...) must be given, since {comparison.directory} is no local "
                "directory. Pass the name of the page to write, such as 'report.html'."
            )
        path = comparison.directory / "report.html"
    return write_report(comparison, path)


def _name_of(directory: Path) -> str:
    """What a page calls a run; its place may be remote."""
    local = directory.absolute() if isinstance(directory, Path) else directory
    return local.name or str(directory)


def render(comparison: Comparison) -> str:
    """The report as one string of HTML.

    Every name from the model or the run is escaped, and a content security policy allows the
    page's own two scripts by their digest and nothing else: no request, no injected script.

    Raises:
        MissingExtra: Bokeh or Jinja is not installed.
    """
    templates = _environment()
    lines = collect_lines(comparison)
    stages = common_stages(comparison)
    shown = selection.representative_groups(comparison)
    losses, accuracies = scalar_lines(comparison, "loss"), scalar_lines(comparison, "acc")
    charts = tug = bokeh_script = ""
    forces = [comparison.forces(group) for group in comparison.groups]
    chosen, reason = facts.tug_to_begin_with(comparison, forces)
    if lines.recorded or losses or accuracies:
        try:
            from bokeh.embed import json_item
            from bokeh.resources import Resources

            from spherical_motion.reporting.charts import draw_charts
            from spherical_motion.reporting.tug_chart import draw_tug
        except ImportError as error:
            raise writing.missing_extra("The HTML report", "bokeh") from error
        colors = selection.first_colors(len(comparison.groups), shown)
        drawing = draw_charts(lines, comparison.groups, colors, shown, stages, losses, accuracies)
        charts = writing.json_for_script(json_item(drawing))
        if chosen is not None:
            told = facts.steps_told(comparison, forces)
            steps = (lines.first, lines.last)
            tug_of_war = draw_tug(forces, chosen, steps, stages, comparison.span, told)
            tug = writing.json_for_script(json_item(tug_of_war))
        bokeh_script = Resources(mode="inline", components=["bokeh"]).js_raw[0]

    page_script = _template_text("page.js")
    markup, rows = templates.filters["markup"], comparison.rows
    titles = {row.number: wording.stage_title(row.number, row.stage) for row in rows}
    scalars = (line.name for line in (*losses, *accuracies))
    return templates.get_template("page.html.j2").render(
        comparison=comparison,
        title=_name_of(comparison.directory),
        lines=lines,
        stages=stages,
        stage_titles=sorted(titles.items()),
        rows=rows,
        extra=wording.balance_columns(rows),
        band=comparison.band,
        tally=facts.tally_of(rows),
        kinds=list(VerdictKind),
        picker=facts.groups_to_pick(comparison, shown),
        palette=selection.DISTINCT_COLORS,
        scalars=list(zip(scalars, cycle(selection.DISTINCT_COLORS), strict=False)),
        events=facts.events_by_kind(comparison.records.events),
        provenance=facts.provenance_of(comparison.records.info),
        policy=writing.content_policy([bokeh_script, page_script]),
        styles=markup(_table_style() + _template_text("page.css")),
        charts=markup(charts),
        tug=markup(tug),
        tug_groups=facts.groups_of_tug(comparison, forces, chosen),
        tug_reason=reason,
        tug_fails=any(curves.failed.any() for curves in forces),
        picker_reason=facts.left_out(len(shown), len(comparison.groups)),
        tug_inseparable=any(row.tug.inseparable for row in rows),
        bokeh_script=markup(bokeh_script),
        page_script=markup(page_script),
    )


def table_html(comparison: Comparison) -> str:
    """The table of verdicts alone, as notebooks show it.

    Raises:
        MissingExtra: Jinja is not installed.
    """
    templates = _environment()
    extra = wording.balance_columns(comparison.rows)
    table = templates.get_template("table.html.j2").render(
        rows=comparison.rows, extra=extra, band=comparison.band
    )
    return f'<div class="sm-table"><style>{_table_style()}</style>{table}</div>'


def _table_style() -> str:
    """The style of the table of verdicts, with the colours and mark of each tone as variables."""
    tones = (
        f".{tone.value} {{ --tone-ink: {tone.ink}; --tone-fill: {tone.fill}; "
        f'--tone-edge: {tone.edge}; --tone-dot: {tone.dot}; --tone-mark: "{tone.mark}"; }}\n'
        for tone in Tone
    )
    return "".join(tones) + _template_text("table.css")


def _environment() -> jinja2.Environment:
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise writing.missing_extra("The HTML report", "jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        markup=markupsafe.Markup,
        counted=wording.counted,
        evidence=wording.evidence_text,
        interval=wording.interval_text,
        on_ratio_scale=wording.on_ratio_scale,
        percent=wording.percent_text,
        ratio=wording.ratio_text,
        share_of=wording.share_of,
        shortened=wording.shortened,
        significant=wording.significant,
        stage_settings=wording.stage_settings,
    )
    return environment


def _template_text(name: str) -> str:
    return (files("spherical_motion.reporting") / "templates" / name).read_text(encoding="utf-8")
