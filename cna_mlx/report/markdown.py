"""A report as Markdown, for an issue or a README: the figures, without the samples."""

import re
from collections.abc import Iterable, Iterator

from cna_mlx.report.content import ReportContent, ReportSection, ReportTable, RunContent
from cna_mlx.util.sanitize import visible

# What Markdown or GitHub would act on.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$])")


def to_markdown(report: ReportContent) -> str:
    """The report as text, without the samples."""
    blocks = []
    if report.across:
        blocks += [f"# {escaped(report.title)}", *_table(report.across)]
    for run in report.runs:
        blocks += _run(run, "##" if report.across else "#")
    blocks += _folded("How to read it", report.reading)
    foot = map(escaped, (*report.hints, report.footer))
    return "\n\n".join((*blocks, *foot)) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    text = _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))
    return text.replace("&", "&amp;").replace("@", "&#64;")


def _run(run: RunContent, level: str) -> Iterator[str]:
    yield f"{level} {escaped(run.title)}"
    yield escaped(run.subtitle)
    yield from (f"> **{escaped(alert)}**" for alert in run.alerts)
    yield f"**{escaped(run.conclusion.headline)}**"
    if run.conclusion.next:
        yield escaped(run.conclusion.next)
    yield from (f"    {visible(one)}" for one in run.conclusion.commands)
    yield from map(escaped, run.conclusion.sentences)
    yield f"Figures {escaped(run.glance_note)}:"
    yield _facts((name, str(value)) for name, value in run.glance)
    for section in run.sections:
        yield from _section(section, f"{level}#")


def _section(section: ReportSection, level: str) -> Iterator[str]:
    yield f"{level} {escaped(section.title)}"
    yield from map(escaped, section.texts)
    if section.facts:
        yield _facts(section.facts)
    for table in section.tables:
        yield from _table(table)
    for neuron in section.neurons:
        yield f"**{escaped(neuron.title)}**"
        yield _facts(neuron.facts)
    if section.items:
        yield f"{escaped(section.items_title)}:"
        yield "\n".join(f"- {escaped(item)}" for item in section.items)
    if section.folded:
        yield from _folded("hashes, versions, machine", section.folded)


def _folded(title: str, facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>"
    yield _facts(facts)
    yield "</details>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        f"- **{escaped(name)}**: {escaped(value)}" for name, value in facts
    )


def _table(table: ReportTable) -> Iterator[str]:
    yield f"**{escaped(table.title)}**"
    rows = [
        map(escaped, table.columns),
        ["---", *["---:"] * (len(table.columns) - 1)],
        *(map(escaped, map(str, row)) for row in table.rows),
    ]
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if table.note:
        yield escaped(table.note)
