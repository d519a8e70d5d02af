"""The doors for files, and mutated inputs to try them with.

A door takes what a file holds and reads it as a command would. It may raise an error of
ours, which a user sees as one line. Anything else is found: another exception, a reader
that takes long, a warning.
"""

import io
import json
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from commandline import NEGATIVE, POSITIVE, TINY, make_screen
from evaluation_runs import SWEEP, make_run
from paths import DATA

from cna_mlx.analysis.run import Run
from cna_mlx.chat.conversation import Conversation
from cna_mlx.chat.transcripts import as_json, load_into
from cna_mlx.circuit import Circuit
from cna_mlx.discovery import cache, kept_openings
from cna_mlx.discovery.selection import Selection
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CnaError
from cna_mlx.evaluation.arms import load_direction, save_direction
from cna_mlx.evaluation.judgements import Judgements
from cna_mlx.labels.answer_files import label_file
from cna_mlx.models import loading
from cna_mlx.prompts import PromptSet
from cna_mlx.prompts.benchmarks import load_benchmark
from cna_mlx.prompts.chat_template import Rendering, render_prompt
from cna_mlx.prompts.files import read_prompts
from cna_mlx.report.listing import Listed
from cna_mlx.report.writing import write_report
from cna_mlx.search import reading
from cna_mlx.search.statistics import read_statistics
from cna_mlx.steering.arms import Arm
from cna_mlx.steering.gauge_scale import Scale, can_gauge
from cna_mlx.steering.interventions import MeanDifference
from cna_mlx.ui.tables import circuit_view

CORPUS = DATA / "corpus"
#: Seconds that reading one small file may take.
SLOWEST = 20.0

_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -0.0, 1e-320, 1e200, 1e308),
    *(float("nan"), float("inf"), "", "x", "\0", "\ud800", "\u202e", "../..", "1e999"),
    *([], {}, [[]], [None], {"": None}, "A" * 5000, [0] * 500),
)
_BYTES = (b"", b"\0", b"\xff", b"{", b"}", b"[", b"]", b'"', b",", b"\n", b"1e999")


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Mutated versions of a file: of its values if it is JSON, else of its bytes."""
    draw = random.Random(seed)
    for _ in range(count):
        found = content
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            found = _mutated(found, draw)
        yield found


def _mutated(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.7:
        lines = content.split(b"\n")
        place = draw.randrange(len(lines))
        for whole in (content, lines[place]):
            try:
                value = json.loads(whole)
            except (ValueError, RecursionError):
                continue
            text = json.dumps(_changed(value, draw)).encode()
            if whole is content:
                return text
            return b"\n".join([*lines[:place], text, *lines[place + 1 :]])
    return _with_other_bytes(content, draw)


def _changed(value: Any, draw: random.Random) -> Any:
    """A value with one part replaced, removed, repeated or moved."""
    value = deepcopy(value)
    holder: Any = [value]
    key: Any = 0
    while isinstance(holder[key], list | dict) and holder[key] and draw.random() < 0.85:
        holder = holder[key]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = draw.choice(list(keys))
    whole = holder if isinstance(holder, list) and holder[0] is value else [value]
    kind = draw.randrange(5)
    if kind == 0 and holder is not whole:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(deepcopy(holder[key]))
    elif kind == 2:
        holder[key] = [deepcopy(holder[key])]
    elif kind == 3 and isinstance(holder, dict):
        holder[draw.choice(list(holder))] = deepcopy(holder[key])
    else:
        holder[key] = draw.choice(_STRANGE)
    return whole[0]


def _with_other_bytes(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((0, 1, 1, 2, 8, 100)))
    kind = draw.randrange(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:end] + content[start:]
    if kind == 2:
        deep = draw.choice((b"[", b'{"a":')) * draw.choice((70, 100_000))
        return content[:start] + deep + content[end:]
    if kind == 3:
        other = bytes(draw.randrange(256) for _ in range(end - start))
        return content[:start] + other + content[end:]
    return content[:start] + draw.choice(_BYTES) + content[end:]


@dataclass(frozen=True)
class Door:
    """A kind of file.

    Attributes:
        seeds: whole files to mutate.
        read: reads a file as a command does.
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]

    def inputs(self, count: int, seed: int) -> Iterator[bytes]:
        """As many mutated files, the same for the same seed."""
        each = -(-count // len(self.seeds))
        streams = [mutations(one, each, seed + at) for at, one in enumerate(self.seeds)]
        return (one for stream in streams for one in stream)

    def find(self, content: bytes) -> str | None:
        """What is wrong with reading a file; None if nothing is."""
        started = time.perf_counter()
        try:
            self.read(content)
        except CnaError as error:
            if not str(error).strip():
                return "an error without a message"
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            return f"{type(error).__name__}: {error}"[:300]
        seconds = time.perf_counter() - started
        return f"{seconds:.0f} s" if seconds > SLOWEST else None


def doors(place: Path, tiny: tuple[Any, Any], circuit_text: str) -> dict[str, Door]:
    """Every door, by name; ``place`` is an empty directory."""
    circuit = circuit_text.encode()
    return {
        "circuit": Door((circuit, _small_circuit()), _circuit_reader(tiny, place)),
        **_cache_doors(place, tiny, circuit),
        **_run_doors(place / "run"),
        "transcript": _transcript(place, tiny, circuit_text),
        **_model_doors(place / "model"),
        "template": _template(tiny),
        **_text_doors(place),
    }


def _written(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """Read a file after it was written."""

    def reader(content: bytes) -> object:
        path.write_bytes(content)
        return read()

    return reader


def _small_circuit() -> bytes:
    return Circuit.from_neurons([(0, 1, 0.5), (1, 2, -0.5)]).to_text().encode()


def _circuit_reader(tiny: tuple[Any, Any], place: Path) -> Callable[[bytes], object]:
    path = place / "circuit.json"
    screen = make_screen()

    def read() -> None:
        found = Circuit.load(path)
        screen.out.print(circuit_view(screen, found))
        Circuit.from_text(found.to_text(), "again")
        if can_gauge(found):
            Scale(found)
        Session.of(*tiny).check(found)

    return _written(path, read)


def _cache_doors(place: Path, tiny: tuple[Any, Any], circuit: bytes) -> dict[str, Door]:
    path, sizes = place / "cached.json", (128, 128, 128)
    tokens = int(tiny[0].args.vocab_size)

    def openings() -> None:
        try:
            found = kept_openings.read_openings(path, tokens)
        except (OSError, ValueError, TypeError):  # as its caller does
            return
        assert all(0 <= one < tokens for phrase in found for one in phrase)

    return {
        "cached circuit": Door(
            (circuit,), _written(path, lambda: cache._read_circuit(path))
        ),
        "universal": Door(
            (b"[[0, 5], [1, 7], [2, 100]]",),
            _written(path, lambda: cache._read_neurons(path, sizes)),
        ),
        "causal": Door(
            (b'{"a-0": [[0.5, 1.5], [2.0]]}',),
            _written(path, lambda: cache._Kept(path)),
        ),
        "openings": Door((b"[[1, 2], [3], [5, 6, 7]]",), _written(path, openings)),
        "statistics": _statistics(place / "statistics.npz", tiny),
    }


def _statistics(path: Path, tiny: tuple[Any, Any]) -> Door:
    """What a search keeps of its reading: the archive, and one made from mutated parts.

    Mutated bytes of an archive rarely get past its checksums; the parts do.
    """
    session = Session.of(*tiny)
    half = PromptSet.from_prompts(POSITIVE, NEGATIVE, "half")
    found = read_statistics(*tiny, half, [5], session.rendering, bank=[half, half])
    found = replace(found, openings=((1, 2), (3,)))
    whole = reading._pack(reading.Reading(half, (0, 1), (0,), found))

    with np.load(io.BytesIO(whole)) as kept:
        parts = {
            name: [kept[name].dtype.str, list(kept[name].shape), 1]
            if name[-1].isdigit()
            else json.loads(str(kept[name]))
            for name in kept.files
        }

    def read(content: bytes) -> None:
        path.write_bytes(_archive(content))
        try:
            found = reading._unpack(session, half, path)
        except (OSError, ValueError, TypeError, LookupError):  # as its caller does
            return
        assert all(half.positive[at] for at in found.refused)
        found.statistics.circuit(Selection(0.01))

    return Door((whole, json.dumps(parts).encode()), read)


def _archive(content: bytes) -> bytes:
    """An npz archive of parts in JSON; other content as it is.

    A part is a type, a shape and a value, or anything else as text.
    """
    try:
        parts = dict(json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return content
    arrays = {}
    for name, part in parts.items():
        try:
            kind, shape, value = part
            with np.errstate(all="ignore"):
                assert np.prod(shape, dtype=float) < 1e6
                arrays[name] = np.full(shape, value, kind)
        except (ValueError, TypeError, AssertionError, OverflowError, SyntaxError):
            arrays[name] = np.array(json.dumps(part))
    file = io.BytesIO()
    with suppress(ValueError, struct.error):  # a name that no archive has
        np.savez(file, **{name.replace("/", "_"): one for name, one in arrays.items()})
    return file.getvalue()


def _run_doors(place: Path) -> dict[str, Door]:
    run = make_run(place, arms=SWEEP, harmful=4, benign=2).directory
    save_direction(MeanDifference((np.zeros(4, np.float32),) * 2), run)
    names = ("run.json", "samples.jsonl", "direction.npz", "circuits/circuit.json")
    files = {name: (run / name).read_bytes() for name in names}

    def reader(name: str) -> Callable[[bytes], object]:
        def read(content: bytes) -> None:
            (run / name).write_bytes(content)
            try:
                _read_run(run, place.parent / "report")
            finally:
                (run / name).write_bytes(files[name])

        return read

    judged = place.parent / "judgements.jsonl"
    line = b'{"key": "%s", "judge": "x", "label": "REFUSED"}\n' % (b"a" * 64)
    return {
        "run": Door((files["run.json"],), reader("run.json")),
        "samples": Door((files["samples.jsonl"],), reader("samples.jsonl")),
        "direction": Door(
            (files["direction.npz"],),
            _written(run / "direction.npz", lambda: _read_direction(run)),
        ),
        "run's circuit": Door((files[names[3]],), reader(names[3])),
        "judgements": Door(
            (line * 3,), _written(judged, lambda: Judgements("x", judged))
        ),
    }


def _read_run(run: Path, to: Path) -> None:
    """Read a run as `runs` and `report` do."""
    found = Run.load(run)
    Listed.of(found).to_dict()
    write_report(found, to, relabel=True)
    shutil.rmtree(to)


def _read_direction(run: Path) -> None:
    if direction := load_direction(run):
        direction.check_shape((4, 4))


def _transcript(place: Path, tiny: tuple[Any, Any], circuit_text: str) -> Door:
    circuit = Circuit.from_text(circuit_text, "here")
    path = place / "chat.json"

    def chat() -> Conversation:
        arms = [Arm.of(circuit, 0.0, "ablated")]
        return Conversation(Session.of(*tiny), arms, is_ablating=True, max_tokens=2)

    held = chat()
    for text in ("one red stone", "two blue birds"):
        list(held.turn(text))

    def read() -> None:
        found = chat()
        load_into(found, path)
        as_json(found)
        list(found.turn("five old cats"))

    return Door((as_json(held).encode(),), _written(path, read))


def _model_doors(place: Path) -> dict[str, Door]:
    """Files of a model: its settings as they are, and the header of its weights."""
    shutil.copytree(TINY, place)
    weights = place / "model.safetensors"
    whole = weights.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, values = whole[8 : 8 + length], whole[8 + length :]

    def load() -> None:
        model, _ = loading.load(str(place))
        list(model(mx.array([[1, 2, 3]])).tolist())

    def restored(
        path: Path, write: Callable[[bytes], bytes]
    ) -> Callable[[bytes], object]:
        before = path.read_bytes()

        def read(content: bytes) -> None:
            path.write_bytes(write(content))
            try:
                load()
            finally:
                path.write_bytes(before)

        return read

    def framed(content: bytes) -> bytes:
        return struct.pack("<Q", len(content)) + content + values

    found = {
        name.removesuffix(".json"): Door(
            ((place / name).read_bytes(),), restored(place / name, bytes)
        )
        for name in ("config.json", "tokenizer_config.json")
    }
    return {**found, "header": Door((header,), restored(weights, framed))}


def _template(tiny: tuple[Any, Any]) -> Door:
    tokenizer = deepcopy(tiny[1])
    own = str(tokenizer.chat_template).encode()

    def read(content: bytes) -> None:
        tokenizer.chat_template = content.decode(errors="replace")
        render_prompt(tokenizer, "one red stone", Rendering(template="on"))

    return Door((own,), read)


def _text_doors(place: Path) -> dict[str, Door]:
    """Prompts and answers in every format that is read by its suffix."""
    rows = [{"prompt": f"a red stone {n}", "category": "x"} for n in range(4)]
    answers = [{**one, "response": "I can't help with that."} for one in rows]
    lines = b"\n".join(json.dumps(one).encode() for one in answers)
    table = b'prompt,response\na red stone,no\n"two, birds","yes\nit is"\n'
    contents = {
        ".txt": b"one red stone\ntwo red birds\n",
        ".json": json.dumps(answers).encode(),
        ".jsonl": lines,
        ".csv": table,
    }
    found = {}
    for suffix, content in contents.items():
        path = place / f"texts{suffix}"
        name = suffix.removeprefix(".")

        def prompts(path: Path = path) -> None:
            read_prompts(path)
            load_benchmark(str(path))

        found[f"prompts {name}"] = Door((content,), _written(path, prompts))
        if suffix != ".txt":
            found[f"answers {name}"] = Door(
                (content,), _written(path, lambda path=path: label_file(path))
            )
    return found
