"""Build the content of a report from runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cna_mlx.analysis.agreement import kept_agreement
from cna_mlx.analysis.grounds import correlation_lines
from cna_mlx.analysis.metrics import Group, Summary
from cna_mlx.analysis.summary import summarize
from cna_mlx.analysis.verdict import Verdict, conclude
from cna_mlx.errors import InputError
from cna_mlx.evaluation.runs import RunRecord
from cna_mlx.evaluation.samples import Sample
from cna_mlx.report import curves, facts, group_tables
from cna_mlx.report.content import ReportContent, ReportSection, RunContent, TextLevel
from cna_mlx.report.excerpts import NOTICES, hints, shown_prompts
from cna_mlx.report.neuron_sections import circuit_sections, search_section
from cna_mlx.report.paper_section import Paper, across_table, paper_section, targets
from cna_mlx.util.files import packaged_toml
from cna_mlx.util.formatting import auc_text, counted

_READING = tuple(packaged_toml("cna_mlx.report", "glossary.toml").items())


@dataclass(frozen=True)
class ReportedRun:
    """A run with all that its part of a report is made from."""

    summary: Summary
    samples: Sequence[Sample]
    conclusion: Verdict
    paper: Paper | None = None
    changed: int | None = None  # labels that a relabelling changed

    @classmethod
    def of(cls, run: RunRecord, *, relabel: bool = False) -> "ReportedRun":
        """A run from its files, with the labels of this version if asked.

        Raises:
            InputError: the samples are damaged, or there is no whole batch yet.
        """
        samples = run.samples()
        if not samples:
            raise InputError(
                f"{run.directory}: no prompt is answered in every arm yet; run the "
                "command that began it again to continue"
            )
        changed = None
        if relabel:
            new = [sample.relabelled() for sample in samples]
            pairs = zip(samples, new, strict=True)
            changed = sum(old.label is not one.label for old, one in pairs)
            samples = new
        summary = summarize(run, samples)
        paper = Paper.of(summary)
        return cls(summary, samples, conclude(summary), paper, changed)


def build(
    entries: Sequence[ReportedRun], level: TextLevel = "excerpts"
) -> ReportContent:
    """Build the content of a report of at least one run."""
    runs = [_run(entry, level) for entry in entries]
    many = len(entries) > 1
    across = across_table([(one.summary, one.paper) for one in entries])
    return ReportContent(
        f"{counted(len(entries), 'run')} compared" if many else runs[0].title,
        NOTICES[level],
        across if many else None,
        runs,
        _READING,
        level,
        facts.written(),
        hints(entries[0].summary.run, level),
    )


def _run(entry: ReportedRun, level: TextLevel) -> RunContent:
    summary, run = entry.summary, entry.summary.run
    judged = summary.target or targets(summary)[0]
    return RunContent(
        f"Refusal audit of {facts.model_name(run)}",
        facts.subtitle(run),
        facts.alerts(summary, entry.changed),
        entry.conclusion,
        group_tables.glance(judged.unseen or judged),
        _glance_note(judged),
        list(_sections(entry, level)),
        shown_prompts(run, entry.samples, level),
        [arm.label for arm in run.arms],
    )


def _glance_note(group: Group) -> str:
    """Which prompts the verdict and the first figures are of."""
    shown = group.unseen or group
    kind = "benign " if group.kind == "benign" else ""
    note = f"of {counted(shown.n, f'{kind}prompt')}"
    if group.unseen:
        return f"{note}, without {group.seen} that the discovery saw"
    return note


def _sections(entry: ReportedRun, level: TextLevel) -> Iterator[ReportSection]:
    summary, run = entry.summary, entry.summary.run
    groups, wanted = summary.groups, targets(summary)
    known, more = facts.facts(run, level), facts.more_facts(run)
    if agreement := kept_agreement(run, entry.samples):
        known.append(("judge", agreement))
    yield ReportSection("facts", "What was run", facts=known, folded=more)
    if searched := search_section(run):
        yield searched
    yield _refusals(run, "refusals", "Refusals", wanted)
    if rest := [one for one in groups if one not in wanted]:
        text = "Benign prompts: each refusal here is one too many."
        yield _refusals(run, "over-refusal", "Over-refusal", rest, text)
    if gauged := [one for one in groups if one.gauge is not None]:
        yield _gauge(gauged, summary)
    if controlled := [one for one in wanted if one.controls]:
        yield _controls(controlled)
    if swept := list(_curves(wanted)):
        yield _strengths(swept)
    if sorted_out := [
        (one, *kind) for one in groups for kind in group_tables.category_kinds(one)
    ]:
        yield ReportSection(
            "categories",
            "By category",
            tables=[group_tables.category_table(*one) for one in sorted_out],
            charts=[curves.category_chart(*one) for one in sorted_out],
        )
    yield from circuit_sections(run, entry.samples, level)
    yield _contamination(groups)
    if entry.paper:
        yield paper_section(summary, entry.paper)


def _refusals(
    run: RunRecord, key: str, title: str, groups: Sequence[Group], *texts: str
) -> ReportSection:
    return ReportSection(
        key,
        title,
        [*texts, *facts.notes(run, {one.set for one in groups})],
        tables=[group_tables.refusal_table(one) for one in groups],
        charts=[curves.refusal_chart(one) for one in groups],
    )


def _gauge(groups: Sequence[Group], summary: Summary) -> ReportSection:
    texts = [
        "The projection of the prompts on the circuit before a token is written: 0 is "
        "the mean of its discovery's answered prompts, 1 that of the refused ones."
    ]
    if summary.separation:
        texts.append(
            "It separates the benign prompts from the others with an AUC of "
            f"{auc_text(summary.separation)} (0.5: not at all, 1: always)."
        )
    texts += correlation_lines(summary)
    tables = [group_tables.gauge_table(groups)]
    return ReportSection("gauge", "Gauge", texts, tables=tables)


def _controls(groups: Sequence[Group]) -> ReportSection:
    texts = [
        "Random neurons, the same number in each layer, scaled like the circuit. "
        "Matched ones are equally active, uniform ones are any; most neurons are "
        "nearly silent, so only the matched ones are a test."
    ]
    texts += [text for one in groups for text in group_tables.control_texts(one)]
    tables = [group_tables.seeds_table(one) for one in groups]
    return ReportSection("controls", "Against the controls", texts, tables=tables)


def _curves(groups: Sequence[Group]) -> Iterator[tuple[str, str, curves.Curve]]:
    """The title, the axis and the points of each sweep."""
    for group in groups:
        if curves.is_curve(group.multipliers):
            yield f"{group.set}, the circuit", "multiplier", group.multipliers
        if curves.is_curve(group.additions):
            yield f"{group.set}, CAA", "alpha", group.additions


def _strengths(swept: Sequence[tuple[str, str, curves.Curve]]) -> ReportSection:
    text = (
        "Multiplier 0 ablates the circuit, 1 is the baseline, more amplifies. CAA adds "
        "alpha times the difference of means to every layer's MLP output; 0 is the "
        "baseline. If the quality falls with the refusals, the model is damaged."
    )
    return ReportSection(
        "strength",
        "Strength",
        [text],
        tables=[group_tables.strength_table(*one) for one in swept],
        charts=[chart for one in swept for chart in curves.strength_charts(*one)],
    )


def _contamination(groups: Sequence[Group]) -> ReportSection:
    seen = [one for one in groups if one.seen]
    texts = [
        f"{one.set}: {one.seen} of {counted(one.n, f'{one.kind} prompt')} equal or "
        "nearly equal one of the discovery."
        for one in seen
    ]
    if clean := dict.fromkeys(one.set for one in groups if one.seen == 0):
        texts.append(f"{', '.join(clean)}: the discovery saw none of these prompts.")
    if unknown := dict.fromkeys(one.set for one in groups if one.seen is None):
        texts.append(
            f"{', '.join(unknown)}: unknown, since the discovery's prompts are not "
            "available."
        )
    tables = [group_tables.contamination_table(seen)] if seen else []
    title = "What the discovery saw"
    return ReportSection("contamination", title, texts, tables=tables)
