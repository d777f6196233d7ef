"""An evaluation as one HTML file that needs no network and quotes no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeft.data.profile.profile_facts import visible
from edgeft.errors import UserError
from edgeft.evaluation import table
from edgeft.files import write_atomically
from edgeft.report import facts, page
from edgeft.report.slice_sections import groups

PURPOSE = "to write the page of an evaluation"
TEMPLATE = "evaluation.html"
CONFUSIONS = 20

Document = Mapping[str, Any]


def check(path: Path) -> None:
    """See before anything is asked whether the page could be written.

    Raises:
        MissingExtraError: jinja2 is not installed.
        UserError: the folder isn't there.
    """
    if path.is_dir():
        raise UserError(f"evaluate: --html {path}: a folder; give a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"evaluate: --html {path}: there is no folder {path.parent}")
    _template()


def write(path: Path, found: Document) -> None:
    """Write the page; equal documents give equal bytes.

    Args:
        path: the file.
        found: the document.
    """
    write_atomically(path, render(found).encode())


def _template() -> Any:
    return page.template(TEMPLATE, PURPOSE, integer=facts.integer, visible=visible)


def render(found: Document) -> str:
    """The page."""
    metric = found["slices"]["metric"]
    lead = found["intervals"][metric]
    return str(
        _template().render(
            found=found,
            lead_name=facts.name(metric),
            lead=facts.figure(metric, lead["value"]),
            lead_interval=facts.interval(metric, lead["low"], lead["high"]),
            rows=table.metric_rows(found),
            calibration=table.calibration_lines(found),
            slices=list(_slices(found)),
            confusions=_confusions(found),
        )
    )


def _slices(found: Document) -> Iterator[tuple[str, list[tuple[str, int, str, str, bool]]]]:
    """Title to name, rows, figure, interval and whether there are few rows, of each part."""
    slices = found["slices"]
    metric = slices["metric"]
    for title, parts in {**groups(slices), f"by length in {slices['unit']}": slices["by_length"]}.items():
        yield (
            title,
            [
                (
                    name,
                    part["rows"],
                    facts.figure(metric, part["value"]),
                    facts.interval(metric, part["low"], part["high"]),
                    part["small"],
                )
                for name, part in parts.items()
            ],
        )


def _confusions(found: Document) -> list[tuple[str, str, int]]:
    """The most frequent confusions: true label, predicted label, rows."""
    pairs = [
        (true, label, count)
        for true, row in (found["confusion"] or {}).items()
        for label, count in row.items()
        if label != true
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:CONFUSIONS]
