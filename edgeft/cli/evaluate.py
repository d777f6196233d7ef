"""`edgeft evaluate`: how good an artifact is on a labelled file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from edgeft.cli.app import Flat, Json, app, print_json, stdout


@dataclass(frozen=True, kw_only=True)
class LabelledColumns:
    """Columns of the file; defaults: those of the artifact's recipe, else the usual names."""

    text_column: Annotated[str | None, Parameter(help="column of the text")] = None
    label_column: Annotated[str | None, Parameter(help="column of the label or labels")] = None
    target_column: Annotated[str | None, Parameter(help="column of the number, of a regression")] = None
    tokens_column: Annotated[str | None, Parameter(help="column of the tokens, of token-classification")] = None
    tags_column: Annotated[str | None, Parameter(help="column of their tags")] = None
    question_column: Annotated[str | None, Parameter(help="column of the question, of question-answering")] = None
    context_column: Annotated[str | None, Parameter(help="column of the text that may have its answer")] = None
    answers_column: Annotated[str | None, Parameter(help="column of the right answers")] = None
    label_delimiter: Annotated[str | None, Parameter(help="stands between the labels of a row")] = None
    delimiter: Annotated[str | None, Parameter(help="stands between the fields of a CSV file")] = None
    encoding: Annotated[str | None, Parameter(help="of a text file, as in cp1252")] = None


@app.command
def evaluate(
    artifact: Path,
    *,
    file: str,
    columns: Annotated[LabelledColumns | None, Flat] = None,
    slice_column: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    skip_bad_rows: Annotated[bool, Parameter(negative="")] = False,
    threads: int | None = None,
    html: Path | None = None,
    json: Json = False,
) -> None:
    """Measure an artifact's answers on a labelled file: metrics with intervals, slices, calibration; nothing is timed.

    Args:
        artifact: the artifact folder.
        file: labelled rows, as of `edgeft data`: CSV, TSV, JSONL or Parquet.
        slice_column: column for whose values the lead metric is measured, too; may be given several times.
        skip_bad_rows: leave out and count rows that can't be used, instead of refusing the file.
        threads: of the engine.
        html: write a page.
    """
    import edgeft
    from edgeft.evaluation import evaluation_report, measure
    from edgeft.report import page, terminal

    if html:
        page.check(html, "evaluate: --html", plots=False)
    chosen = {name: value for name, value in asdict(columns or LabelledColumns()).items() if value is not None}
    if slice_column:
        chosen["slice_columns"] = list(slice_column)
    if skip_bad_rows:
        chosen["skip_bad_rows"] = True
    result = measure.evaluate(edgeft.load(artifact, threads=threads), file, chosen)
    report = evaluation_report.report(result)
    terminal.show(report, stdout())
    if html:
        page.write(html, report)
    if json:
        print_json(result)
