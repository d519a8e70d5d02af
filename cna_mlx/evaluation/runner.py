"""Run an evaluation: start or resume its run, and answer the remaining prompts."""

from contextlib import suppress

from cna_mlx.discovery.options import defaults_for
from cna_mlx.evaluation.arms import AUDIT_SEEDS, save_direction
from cna_mlx.evaluation.asked import Evaluation
from cna_mlx.evaluation.batches import answer_group
from cna_mlx.evaluation.further import SAMPLED
from cna_mlx.evaluation.journal import Journal, opened
from cna_mlx.evaluation.neurons import circuit_neurons
from cna_mlx.evaluation.plan import EvaluationPlan
from cna_mlx.evaluation.power import smallest_fall, worth
from cna_mlx.evaluation.runs import NEURONS, RunRecord, Status
from cna_mlx.evaluation.samples import Sample
from cna_mlx.evaluation.timing import expected_seconds
from cna_mlx.labels.thoughts import cut_thoughts
from cna_mlx.models.memory.machine import wired
from cna_mlx.prompts.unasked import other_prompts
from cna_mlx.util.files import is_there
from cna_mlx.util.formatting import counted, duration
from cna_mlx.util.interrupt import Terminated

# In seconds: from here on the announcement says how to shorten a run.
_LONG = 600


def run_evaluation(plan: EvaluationPlan) -> RunRecord:
    """Answer the remaining prompts of a run, and write each batch into it.

    Returns:
        The run: ``complete``, or ``interrupted`` by the reporter's ``stop`` or by
        Ctrl-C, which keeps the complete batches.

    Raises:
        InputError: the directory has another run, or cannot be written.
        CnaError: the model or the disk failed; the run is then ``failed``.
    """
    with opened(plan.directory, plan.config, plan.circuits, plan.facts) as journal:
        status: Status = "failed"
        try:
            _announce(plan, journal)
            if plan.direction is not None:
                save_direction(plan.direction, plan.directory)
            is_whole = _answer(plan, journal)
            status = "complete" if is_whole else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
        except Terminated:
            status = "interrupted"
            raise
        finally:
            journal.finish(status)
        if status == "complete":
            _keep_neurons(plan, journal.run)
        return journal.run


def _keep_neurons(plan: EvaluationPlan, run: RunRecord) -> None:
    """Write what the report shows of the circuit's neurons; Ctrl-C skips it."""
    asked, circuit = plan.evaluation, next(iter(plan.circuits.values()), None)
    if not circuit or not circuit.neurons or is_there(run.directory / NEURONS):
        return
    with plan.reporter.progress("prompts") as progress, suppress(KeyboardInterrupt):
        found = circuit_neurons(
            asked.model,
            asked.tokenizer,
            circuit,
            asked.prompts,
            asked.rendering,
            progress,
        )
        run.keep(NEURONS, found.to_dict())


def _answer(plan: EvaluationPlan, journal: Journal) -> bool:
    """Answer the remaining prompts; return whether all are answered."""
    evaluation, report = plan.evaluation, plan.reporter
    total, cut = len(evaluation.prompts), 0
    repeated = _repeated(evaluation, journal)
    with report.progress("prompts") as progress, report.watching(), wired():
        progress("Answering", journal.done, total)
        while journal.done < total and not report.stop():
            numbers = evaluation.next_group(journal.done)
            new = [number for number in numbers if number not in evaluation.repeats]
            answers = answer_group(evaluation, new, report.stop) if new else []
            if answers is None:
                return False
            found = dict(zip(new, answers, strict=True))
            repeated |= {n: found[n] for n in evaluation.repeats.values() if n in found}
            # a killed run may have kept a part of its last group
            for number in numbers[journal.done - numbers.start :]:
                samples = found.get(number)
                if samples is None:
                    named = number, *evaluation.prompts[number]
                    earlier = repeated[evaluation.repeats[number]]
                    samples = [one.of_prompt(*named) for one in earlier]
                journal.add(samples)
                cut += sum(one.in_thought for one in samples)
            progress("Answering", journal.done, total)
    if cut:
        report.warn(cut_thoughts(cut))
    return journal.done == total


def _repeated(evaluation: Evaluation, journal: Journal) -> dict[int, list[Sample]]:
    """The samples of the answered prompts that a later one repeats, by number."""
    wanted = set(evaluation.repeats.values())
    found: dict[int, list[Sample]] = {}
    for sample in journal.run.samples() if wanted else ():
        if sample.number in wanted:
            found.setdefault(sample.number, []).append(sample)
    return found


def _announce(plan: EvaluationPlan, journal: Journal) -> None:
    evaluation, note = plan.evaluation, plan.reporter.note
    total = len(evaluation.prompts)
    sizes = " + ".join(f"{len(one.prompts)} of {one.name}" for one in evaluation.sets)
    work = (
        f"{counted(total, 'prompt')} ({sizes}) x {len(evaluation.arms)} arms x "
        f"{evaluation.max_tokens} tokens at most"
    )
    left = total - journal.done
    if not left:
        note(f"{work}: all are answered")
        return
    if not journal.is_locked:
        plan.reporter.warn(
            f"{plan.directory} is on a file system without locks: let only one process "
            "write this run"
        )
    with plan.reporter.progress("prompts") as progress:
        progress("Timing the longest prompt", 0, 1)
        seconds = expected_seconds(evaluation)
    answers, more = (one * left / total for one in seconds)
    again = f", {journal.done} are already answered" if journal.done else ""
    further = ""
    if evaluation.extend_to:
        further = (
            f", and {duration(more)} more if every {SAMPLED}th answer continues to "
            f"{evaluation.extend_to} tokens"
        )
    if answers + more > _LONG:
        further += "; fewer controls or prompts take less"
    note(f"{work}{again}: {duration(answers)} or less{further}")
    if text := _prospects(plan):
        note(text)


def _prospects(plan: EvaluationPlan) -> str | None:
    """What fall the harmful prompts and the controls could show."""
    seen = plan.facts.contamination
    harmful = [one for one in plan.evaluation.prompts if one[1].kind == "harmful"]
    n = sum(prompt.id not in (seen.get(name) or ()) for name, prompt in harmful)
    if not harmful or plan.evaluation.main is None:
        return None
    if not n:
        model = str(plan.config.model.id)
        others = other_prompts(model, (str(one.name) for one in plan.config.sets))
        half = defaults_for(model).contrast
        return (
            "The discovery saw all harmful prompts: this run will have no verdict. Ask "
            f"others ({others}), or discover on one half and ask the other "
            f"(--contrast {half}:odd --prompts {half}:even)"
        )
    k = sum(arm.role == "matched" for arm in plan.config.arms)
    fall = smallest_fall(n, k)
    shown = f"a fall of {fall:.0f} points is" if fall else "not even a fall to 0% is"
    losing = " and each random control loses 10% of those" if k else ""
    text = (
        f"If the model refuses 90% of these {counted(n, 'harmful prompt')}{losing}, "
        f"{shown} seen in 8 of 10 runs"
    )
    return "; ".join([text, *_best(k, plan.facts.stand_ins)])


def _best(k: int, stand_ins: float | None) -> list[str]:
    """What k matched controls can show at best, unless that is 1 in 20."""
    controls, count = counted(k, "control"), worth(k, stand_ins)
    best = f"1 in {count + 1} at best"
    if count < k:
        return [f"{controls} share neurons and count as {count}: {best}"]
    if not 0 < k < AUDIT_SEEDS:
        return []
    return [
        f"{controls} can show {best}, {AUDIT_SEEDS} can show 1 in {AUDIT_SEEDS + 1}"
    ]
