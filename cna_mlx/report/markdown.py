"""A report as Markdown, for an issue or a README: the figures, without the samples."""

import re
from collections.abc import Iterable, Iterator

from cna_mlx.report.content import (
    Cell,
    ReportContent,
    ReportSection,
    ReportTable,
    RunContent,
)
from cna_mlx.util.sanitize import visible

# What Markdown or GitHub would act on.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$])")


def to_markdown(report: ReportContent) -> str:
    """The report as text.

    Args:
        report: what it says; the samples are left out.
    """
    lines = [f"# {escaped(report.title)}" if report.across else ""]
    if report.across:
        lines += ["", *_table(report.across)]
    for run in report.runs:
        lines += ["", *_run(run, "##" if report.across else "#")]
    lines += ["", "<details><summary>How to read it</summary>", ""]
    lines += [
        f"- **{escaped(name)}**: {escaped(said)}" for name, said in report.reading
    ]
    lines += ["", "</details>", "", escaped(report.footer)]
    return "\n".join(lines).strip() + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))
    return text.replace("&", "&amp;").replace("@", "&#64;")


def _run(run: RunContent, level: str) -> Iterator[str]:
    yield f"{level} {escaped(run.title)}"
    yield ""
    yield escaped(run.subtitle)
    for alert in run.alerts:
        yield ""
        yield f"> **{escaped(alert)}**"
    yield ""
    yield f"**{escaped(run.conclusion.headline)}**"
    for sentence in run.conclusion.sentences:
        yield ""
        yield escaped(sentence)
    yield ""
    yield f"Figures {escaped(run.glance_note)}:"
    yield ""
    yield from _facts((name, str(value)) for name, value in run.glance)
    for section in run.sections:
        yield ""
        yield from _section(section, f"{level}#")


def _section(section: ReportSection, level: str) -> Iterator[str]:
    yield f"{level} {escaped(section.title)}"
    for text in section.texts:
        yield ""
        yield escaped(text)
    if section.facts:
        yield ""
        yield from _facts(section.facts)
    for table in section.tables:
        yield ""
        yield from _table(table)
    if section.items:
        yield ""
        yield f"{escaped(section.items_title)}:"
        yield ""
        yield from (f"- {escaped(item)}" for item in section.items)
    if section.folded:
        yield ""
        yield "<details><summary>hashes, versions, machine</summary>"
        yield ""
        yield from _facts(section.folded)
        yield ""
        yield "</details>"


def _facts(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in facts:
        yield f"- **{escaped(name)}**: {escaped(value)}"


def _table(table: ReportTable) -> Iterator[str]:
    yield f"**{escaped(table.title)}**"
    yield ""
    yield _row(escaped(name) for name in table.columns)
    yield _row(["---", *["---:"] * (len(table.columns) - 1)])
    for row in table.rows:
        yield _row(map(_cell, row))
    if table.note:
        yield ""
        yield escaped(table.note)


def _cell(cell: Cell) -> str:
    return escaped(str(cell))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
