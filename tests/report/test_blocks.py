"""One report, two renderers: each shows what is for it, and obeys no words from elsewhere."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from edgeft.errors import UserError
from edgeft.report import page, terminal
from edgeft.report.blocks import (
    Bar,
    Column,
    Command,
    Figure,
    Headline,
    Paragraph,
    Report,
    Row,
    Section,
    Table,
    pair_table,
)

EVIL = "<b>\x1b[31m\u202ered</b>"
TABLE = Table(
    (Column("label"), Column("level", shown="page"), Column("short", shown="terminal"), Column("rows", "number")),
    (
        Row((EVIL, "on the page", "on the terminal", "12"), bar=Bar(1.0)),
        Row(("[bold]b[/]", "p", "t", "6"), "pale", Bar(0.5, 0.25)),
        Row(("nothing", "p", "t", "0"), "strong", Bar(0.0)),
    ),
)
REPORT = Report(
    title=f"title {EVIL}",
    tab="tab",
    subtitle="subtitle",
    headlines=(Headline("p50", "2 ms", "note"),),
    warnings=("too noisy",),
    sections=(
        Section("All of it", (TABLE, Paragraph("words", "loud"), Command("edgeft x > y")), "How to read it."),
        Section("Plots", (Figure(lambda: "<svg></svg>", "caption", "how to read it"),)),
        Section("For a page", (Paragraph("wide"),), shown="page"),
        Section("For a terminal", (Paragraph("narrow"),), shown="terminal"),
        Section("Both", (Paragraph("for the page", shown="page"), Paragraph("for the terminal", shown="terminal"))),
        Section("Nothing", lead="Nothing: train."),
    ),
    footer="small print",
)


def printed(report: Report, width: int = 80) -> str:
    stream = io.StringIO()
    terminal.show(report, Console(file=stream, width=width))
    return stream.getvalue()


def test_a_page_has_what_is_for_pages() -> None:
    shown = page.render(REPORT)
    assert shown == page.render(REPORT)
    assert shown.startswith("<!doctype html>\n")
    assert shown.index("Content-Security-Policy") < shown.index("<title>tab</title>")
    for words in ("on the page", "wide", "for the page", "Nothing: train.", "<svg></svg>", "small print", "too noisy"):
        assert words in shown
    for words in ("on the terminal", "narrow", "for the terminal", "short"):
        assert words not in shown
    assert '<span style="margin-left: 25.0%; width: 50.0%"></span>' in shown
    assert '<pre class="block">edgeft x &gt; y</pre>' in shown
    assert [f"#{name}" for name in re.findall(r'<section id="([^"]+)"', shown)] == re.findall(r'href="([^"]+)"', shown)


def test_a_terminal_has_what_is_for_terminals() -> None:
    shown = printed(REPORT)
    for words in ("on the terminal", "narrow", "for the terminal", "Nothing: train.", "edgeft x > y", "[bold]b[/]"):
        assert words in shown
    for words in ("on the page", "wide", "for the page", "Plots", "svg", "small print", "p50"):
        assert words not in shown
    assert shown.splitlines()[-1] == "too noisy"
    bars = [line.count("█") for line in shown.splitlines() if line.startswith(("<b>", "[bold]", "nothing"))]
    assert bars == [terminal.BAR, terminal.BAR // 2, 0]


def test_words_from_elsewhere_are_shown_and_not_obeyed() -> None:
    assert "&lt;b&gt;\\x1b[31m\\u202ered&lt;/b&gt;" in page.render(REPORT)
    for shown in (page.render(REPORT), printed(REPORT)):
        assert not {"\x1b", "\u202e"} & set(shown)
        assert shown.count("\\x1b[31m\\u202ered") == 2
    assert "<b>\\x1b" not in page.render(REPORT)


def test_only_plots_are_taken_as_markup() -> None:
    source = (Path(page.__file__).parent / "templates" / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"\{\{([^}]*\|\s*safe)", source) == [" figure.svg()|safe"]
    assert "autoescape" not in source


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    long = " ".join(f"word{number}" for number in range(60))
    flag = "pipeline --set finetune.max_length=64"
    numbers = Table(
        (Column("name"), *(Column(f"column {n}", "number") for n in range(5))),
        (Row(("artifact", *(str(n) * 6 for n in range(5)))),),
    )
    todo = Table((Column(), Column(kind="code"), Column(kind="prose")), (Row(("must", flag, long), "loud"),))
    blocks = (numbers, todo, pair_table([("name", long)]), Paragraph(long))
    shown = printed(Report(title=long, tab="", sections=(Section("title", blocks, long),)), width)
    assert max(map(len, shown.splitlines())) <= min(width, terminal.WIDTH)
    whole = re.sub(r"\s", "", shown)
    assert "…" not in whole
    assert all(f"word{number}" in whole for number in range(60))
    assert (flag in shown) == (width > 40)


def test_a_path_is_one_line_however_long() -> None:
    path = "Page: /" + "folder/" * 40
    report = Report(title="a", tab="a", sections=(Section("", (Paragraph(path, wrap=False), Command("x " * 90))),))
    assert path in printed(report).splitlines()


def test_a_page_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^bench: --html .* is a folder; give a file$"):
        page.check(tmp_path, "bench: --html")
    with pytest.raises(UserError, match=r"^bench: --html .*: there is no folder .*no$"):
        page.check(tmp_path / "no" / "page.html", "bench: --html")
    page.check(tmp_path / "page.html", "bench: --html")
    page.write(tmp_path / "page.html", REPORT)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.render(REPORT)
