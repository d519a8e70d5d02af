"""Run lm-evaluation-harness through mlx-lm's adapter, on a loaded model.

Only this module uses undocumented parts of lm-eval and of mlx-lm's adapter;
tests/test_contracts.py pins them.
"""

import fnmatch
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partialmethod
from importlib.util import find_spec
from io import StringIO
from itertools import groupby
from logging import WARNING, Handler, LogRecord, NullHandler, getLogger
from pathlib import Path
from typing import Any

from cna_mlx.errors import CnaError, HubError, InputError
from cna_mlx.models.hub.errors import first_line, is_client_error, quiet
from cna_mlx.prompts.chat_template import Rendering, template_arguments, uses_template
from cna_mlx.util.progress import Progress, silent

EXTRA = "pip install 'cna-mlx[eval]'"

# Errors of a data set that is not cached, without a network. datasets also raises
# ValueError("Couldn't find cache").
_UNREACHED = {"ConnectionError", "OfflineModeIsEnabled", "DatasetNotFoundError"}


def require_harness() -> None:
    """Raise InputError if the extra is not installed."""
    if find_spec("lm_eval") is None:
        raise InputError(f"lm-evaluation-harness is not installed: {EXTRA}")


# ----------------------------------------------------------------------- the tasks


@dataclass(frozen=True)
class Tasks:
    """Tasks of lm-eval: the names asked for, and what lm-eval loads for them."""

    names: tuple[str, ...]
    loaded: dict[str, Any]


def load_tasks(
    names: Sequence[str],
    include_path: Path | None = None,
    *,
    num_shots: int | None = None,
    offline: bool = False,
) -> Tasks:
    """Find tasks of lm-eval, and fetch their data if it is not cached.

    Args:
        names: of tasks, groups or tags, or patterns such as ``mmlu_*``.
        num_shots: few-shot examples; a task's own number if None, or if that is 0.

    Raises:
        InputError: lm-eval is not installed; no such task, or one that cannot be run.
        HubError: a data set cannot be fetched.
    """
    require_harness()
    if not names:
        raise InputError("name a task, such as mmlu")
    if include_path is not None and not include_path.is_dir():
        raise InputError(f"{include_path}: no such directory to look for tasks in")
    with hushed():
        manager, found = _find(names, include_path)
        with _offline(offline), _task_errors(found, offline):
            loaded: dict[str, Any] = manager.load(found)
    for name in loaded["groups"]:
        if not loaded["group_map"].get(name):
            raise InputError(
                f"group {name} has no tasks: give it a list of them, as task: [...]"
            )
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise InputError(
                f"task {name} runs code that the model wrote: choose another task"
            )
        if getattr(task, "MULTIMODAL", False):
            raise InputError(f"task {name} needs images: choose a text-only task")
        # as lm-eval sets it: a task's own 0 stays 0
        own = task.get_config("num_fewshot")
        if own is None or (num_shots is not None and own != 0):
            task.set_config(key="num_fewshot", value=num_shots or 0)
    return Tasks(tuple(names), loaded)


def _find(names: Sequence[str], include_path: Path | None) -> tuple[Any, list[str]]:
    """Return a task manager with all these tasks, and the names without patterns."""
    from lm_eval.tasks import TaskManager

    if include_path is not None:
        # lm-eval's own 14,000 tasks take 15 seconds to read
        own = TaskManager(include_path=str(include_path), include_defaults=False)
        if all(_knows(own, name) for name in names):
            return own, list(names)
    manager = TaskManager(include_path=include_path and str(include_path))
    found: list[str] = []
    for name in names:
        # only the tasks that match: their groups have the same ones
        matches = fnmatch.filter(manager.all_subtasks, name) if "*" in name else [name]
        if not set(matches) & set(manager.all_tasks):
            near = get_close_matches(name, manager.all_tasks, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "lm-eval ls tasks"
            raise InputError(f"lm-eval has no task {name!r}: {hint}")
        found += [match for match in matches if match not in found]
    return manager, found


def _knows(manager: Any, name: str, within: Sequence[str] = ()) -> bool:
    """Whether it has this task, or a group of this name with all its members."""
    if name in manager.all_subtasks or name in within:
        return True
    if name not in manager.all_groups:
        return False
    members = manager.task_index[name].cfg.get("task")
    within = (*within, name)
    return not isinstance(members, list) or all(  # lm-eval reads only a list
        isinstance(one, str) and _knows(manager, one, within) for one in members
    )


@contextmanager
def _task_errors(names: Sequence[str], offline: bool) -> Iterator[None]:
    said = ", ".join(names)
    remedy = "run it once without --offline" if offline else "check the network"
    try:
        yield
    except CnaError:
        raise
    except Exception as error:
        if _is_unreached(error):
            raise HubError(
                f"the data of {said} is not cached and cannot be fetched "
                f"({first_line(error)}): {remedy}"
            ) from error
        raise InputError(f"{said} cannot be loaded: {first_line(error)}") from error


def _is_unreached(error: BaseException | None) -> bool:
    """Whether the network or the Hub failed."""
    while error is not None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        is_uncached = "Couldn't find cache" in str(error)
        if is_uncached or kinds & _UNREACHED or is_client_error(error):
            return True
        error = error.__cause__ or error.__context__
    return False


# --------------------------------------------------------------------- the adapter


def adapter(
    model: Any,
    tokenizer: Any,
    rendering: Rendering,
    batch_size: int,
    progress: Progress = silent,
) -> Any:
    """Return mlx-lm's adapter, ``mlx_lm.evaluate.MLXLM``, for a loaded model.

    Calls ``progress`` with the finished requests.

    Raises:
        InputError: the rendering requires a template and the tokenizer has none.
    """
    with hushed():
        from mlx_lm import evaluate

    class Adapter(evaluate.MLXLM):
        apply_chat_template = evaluate.chat_template_fn(
            **template_arguments(tokenizer, rendering)
        )

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            # The adapter scores one context after another, so parts score the same.
            parts = (list(g) for _, g in groupby(requests, lambda r: r.args[0]))
            return _counted(super().loglikelihood, parts, len(requests), progress)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[Any]:
            size = self._batch_size  # the adapter's batches, so the same padding
            starts = range(0, len(requests), size)
            parts = (requests[start : start + size] for start in starts)
            whole = super().loglikelihood_rolling
            return _counted(whole, parts, len(requests), progress)

    # its constructor loads a model by name: give it this one
    with _replaced(evaluate, "load", lambda *_, **__: (model, tokenizer)):
        return Adapter(
            "",
            batch_size=batch_size,
            use_chat_template=uses_template(tokenizer, rendering),
        )


def _counted(
    score: Any, parts: Iterator[list[Any]], total: int, progress: Progress
) -> list[Any]:
    results: list[Any] = []
    progress("scoring", 0, total)
    for part in parts:
        results += score(part)
        progress("scoring", len(results), total)
    return results


def run_tasks(
    lm: Any,
    tasks: Tasks,
    *,
    limit: int | None,
    seed: int,
    system: str | None,
    multiturn: bool,
) -> dict[str, Any]:
    """Run lm-eval on tasks, as its ``simple_evaluate`` does.

    Does not call that function: it queries git and torch, and prints what it finds.
    ``limit`` is the first items of each task; ``seed`` seeds all generators.

    Raises:
        CnaError: lm-eval failed.
    """
    import lm_eval

    for task in tasks.loaded["tasks"].values():
        task.set_fewshot_seed(seed=seed)
    try:
        with hushed(), _seeded(seed):
            results: dict[str, Any] = lm_eval.evaluate(
                lm=lm,
                task_dict=tasks.loaded,
                limit=limit,
                system_instruction=system,
                apply_chat_template=lm.use_chat_template,
                fewshot_as_multiturn=multiturn,
            )
    except (ValueError, TypeError, LookupError, ImportError, OSError) as error:
        raise CnaError(
            f"lm-eval failed on {', '.join(tasks.loaded['tasks'])}: {first_line(error)}"
        ) from error
    return results


class _Warnings(Handler):
    """Pass on lm-eval's warnings, once each."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(WARNING)
        self._warn = warn
        self._said: set[str] = set()

    def emit(self, record: LogRecord) -> None:
        """Pass on a new message."""
        message = " ".join(record.getMessage().split())
        if message not in self._said:
            self._said.add(message)
            self._warn(f"lm-eval: {message}")


@contextmanager
def warnings_of_lm_eval(warn: Callable[[str], None]) -> Iterator[None]:
    """Pass on lm-eval's warnings inside the block."""
    logger, handler = getLogger("lm_eval"), _Warnings(warn)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


# ------------------------------------------------------ changes to the whole process

# lm-eval, datasets and mlx-lm's adapter have no argument for these. Each change lasts
# for a block.


@contextmanager
def hushed() -> Iterator[None]:
    """Hide what lm-eval, mlx-lm and datasets print and draw inside the block.

    Standard output is the command's data. Log messages still reach a handler on
    ``lm_eval``.
    """
    import datasets
    from tqdm import tqdm

    draws = not datasets.are_progress_bars_disabled()
    quiet_bar = partialmethod(tqdm.__init__, disable=True)
    root, nobody = getLogger(), NullHandler()
    # without a handler, mlx-lm's first log line would install one permanently
    root.addHandler(nobody)
    try:
        datasets.disable_progress_bars()
        with (
            quiet(),
            warnings.catch_warnings(action="ignore"),
            redirect_stdout(StringIO()),
            _replaced(tqdm, "__init__", quiet_bar),
        ):
            yield
    finally:
        root.removeHandler(nobody)
        if draws:
            datasets.enable_progress_bars()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of tasks; restore Python's and numpy's afterwards.

    MLX's state cannot be restored: nothing here draws from it without a key.
    """
    import mlx.core as mx
    import numpy as np

    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    mx.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Make no request inside the block, if wanted.

    huggingface_hub and datasets read ``HF_HUB_OFFLINE`` once, into constants.
    """
    from datasets import config
    from huggingface_hub import constants

    with _replaced(constants, "HF_HUB_OFFLINE", wanted or constants.HF_HUB_OFFLINE):
        offline = config.HF_HUB_OFFLINE or constants.HF_HUB_OFFLINE
        with _replaced(config, "HF_HUB_OFFLINE", offline):
            yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
