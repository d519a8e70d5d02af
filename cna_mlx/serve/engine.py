"""Answer many requests at once with one model, on one thread."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any

import mlx.core as mx

from cna_mlx.circuit import Circuit
from cna_mlx.errors import CnaError, OutOfMemoryError
from cna_mlx.models.memory.loaded import loaded_shape
from cna_mlx.models.memory.machine import wired
from cna_mlx.serve.batch_edits import BatchEdits
from cna_mlx.serve.feeding import Feeding
from cna_mlx.serve.prompt_cache import PromptCache
from cna_mlx.serve.rows import Row, RunningRows
from cna_mlx.serve.scoring import TOGETHER, TOKENS, score_prompts
from cna_mlx.serve.tokens import NextTokens
from cna_mlx.serve.work import (
    Ask,
    Command,
    Failed,
    LookedUp,
    Lookup,
    ScorePrompt,
    Work,
)
from cna_mlx.steering.gauge_scale import Scale
from cna_mlx.util import ranks

# Tokens of prompts that are fed between two steps of the answers, and without any.
_BESIDE, _ALONE = 512, 2048
# Prompts that are fed together.
_FED = 16
_CLEARED = 256  # turns


class StoppedError(CnaError):
    """The server ends before the work is done."""

    def __init__(self) -> None:
        super().__init__("the server was stopped")


class Engine:
    """Work from any thread, done on the thread of :meth:`run`.

    Answers of all arms are rows of one batch. New requests are taken in the order in
    which they came: their prompts are fed a part at a time, between the steps of the
    answers that run already.

    Args:
        model, tokenizer: as :func:`cna_mlx.load` returns them.
        rows: answers that run at once; more wait.
        tokens: the largest number of tokens in the KV caches of all rows, each as long
            as the longest.
        cache_bytes: of the KV caches that are kept for later requests.
        lookups: other uses of the model, by name; each is called on this thread with
            what the request gives.
        exchange: shares the engine's commands among the ranks that hold the model.
        warn: called with a line about an error that is not a request's.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        rows: int = 64,
        tokens: int = 1 << 20,
        cache_bytes: int = 1 << 28,
        lookups: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
        exchange: Callable[[list[Command]], list[Command]] | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        mx.eval(model.parameters())  # what is read lazily belongs to this thread
        self.model, self.tokenizer = model, tokenizer
        self.most_rows, self.most_tokens = rows, tokens
        self._warn, self._known = warn, lookups
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._exchange = exchange
        self._edits = BatchEdits(model)
        self._kept = PromptCache(model, cache_bytes)
        recurrent = loaded_shape(model).recurrent
        # mlx-lm's Mamba2 takes padding on the right into its state
        self._together = 1 if recurrent and recurrent.scan else _FED
        eos = set(tokenizer.eos_token_ids)
        self._rows = RunningRows(model, self._edits, self._kept, eos.__contains__)
        self._asked: deque[Row] = deque()
        self._scores: deque[ScorePrompt] = deque()
        self._lookups: deque[Lookup] = deque()
        self._feeding: Feeding | None = None
        self._scales: dict[int, Scale] = {}
        self._turns = 0
        self._ends: str | None = None  # "finish" what runs, or end "now"
        self._is_over = False  # run has ended

    # ------------------------------------------------------------- from any thread

    def submit(self, work: Work) -> None:
        """Take on a piece of work; its events come on the engine's thread."""
        self._inbox.put(("take", work))
        if self._is_over:  # nobody else would tell it
            self._refuse()

    def cancel(self, work: Work) -> None:
        """Give up a piece of work, and its row; without a further event."""
        self._inbox.put(("drop", work.number))

    def finish(self, *, now: bool = False) -> None:
        """End :meth:`run` when all work is done, or now; further work fails."""
        self._inbox.put(("finish", now))

    # -------------------------------------------------------- on the engine's thread

    def run(self) -> None:
        """Work until :meth:`finish` is called."""
        try:
            with wired():
                while self.work(waits=True) or self._ends is None:
                    pass
        except BaseException:
            self._fail_all(StoppedError())
            raise
        finally:
            self._is_over = True
            self._refuse()

    def work(self, *, waits: bool = False) -> bool:
        """Take on what was asked for, and do a turn of it; whether there was work."""
        self._read_inbox(waits=waits and not self._is_busy() and self._ends is None)
        if self._ends == "now":
            self._fail_all(StoppedError())
        if not self._is_busy():
            return False
        self._turn()
        return True

    @property
    def running(self) -> int:
        """How many answers are being made or wait."""
        return sum(not row.is_over for row in self._all_rows())

    @property
    def cached_bytes(self) -> int:
        """Bytes of the KV caches that are kept for later requests."""
        return self._kept.nbytes

    def _is_busy(self) -> bool:
        return bool(
            self._rows.rows
            or self._asked
            or self._feeding
            or self._scores
            or self._lookups
        )

    def _read_inbox(self, *, waits: bool) -> None:
        """Obey the commands that came; of several ranks the first one receives them."""
        told: list[Command] = []
        if self._exchange is None or ranks.is_first():
            with suppress(Empty):
                while True:
                    told.append(self._inbox.get(block=waits))
                    waits = False
        for kind, what in told if self._exchange is None else self._exchange(told):
            if isinstance(what, Work):
                self._take(what)
            elif kind == "drop":
                self._drop(what)
            else:
                self._ends = "now" if what or self._ends == "now" else "finish"

    def _refuse(self) -> None:
        """Tell work that comes after the end."""
        with suppress(Empty):
            while True:
                _, what = self._inbox.get(block=False)
                if isinstance(what, Work):
                    what.deliver(Failed(StoppedError()))

    def _take(self, work: Work) -> None:
        if self._ends is not None:
            work.deliver(Failed(StoppedError()))
        elif isinstance(work, Ask):
            self._asked.append(Row(work, self._detokenizer(work)))
        elif isinstance(work, ScorePrompt):
            self._scores.append(work)
        elif isinstance(work, Lookup):
            self._lookups.append(work)

    def _detokenizer(self, ask: Ask) -> Any:
        made = self.tokenizer.detokenizer
        if ask.continues:  # after a letter no space is dropped
            for token in self.tokenizer.encode("x", add_special_tokens=False):
                made.add_token(token)
            _ = made.last_segment
        return made

    def _drop(self, number: int) -> None:
        for row in self._all_rows():
            if row.ask.number == number:
                row.is_over = True
        self._asked = deque(row for row in self._asked if not row.is_over)
        self._scores = deque(one for one in self._scores if one.number != number)
        self._lookups = deque(one for one in self._lookups if one.number != number)

    def _all_rows(self) -> Iterator[Row]:
        yield from self._rows.rows
        yield from self._feeding.rows if self._feeding else ()
        yield from self._asked

    def _turn(self) -> None:
        """A step of the answers, a part of the prompts, and some of the rest."""
        self._turns += 1
        if self._turns % _CLEARED == 0:
            mx.clear_cache()  # batches of every size leave buffers behind
        with self._failing(self._rows.fail):
            self._rows.step()
        fed = None
        with self._failing(self._fail_feeding):
            fed = self._feed()
        if fed:
            feeding, first = fed
            with self._failing(self._rows.fail), _told(feeding.rows):
                self._rows.join(feeding.rows, feeding.cache, first)
        if self._scores:
            works = self._next_scores()
            with self._failing(lambda error: _fail(works, error)):
                score_prompts(self.model, works, self._edits)
        if self._lookups:
            look = self._lookups.popleft()
            with self._failing(lambda error: _fail([look], error)):
                try:
                    look.deliver(LookedUp(self._known[look.name](**look.given)))
                except OutOfMemoryError:
                    raise
                except CnaError as error:  # of this request alone
                    look.deliver(Failed(error))

    @contextmanager
    def _failing(self, fail: Callable[[Exception], None]) -> Iterator[None]:
        """Tell those whose work fails inside the block; all others go on."""
        try:
            yield
        except Exception as error:
            if self._exchange is not None:
                raise  # the other ranks may have gone on
            fail(error)
            if isinstance(error, OutOfMemoryError):
                self._kept.clear()
            mx.clear_cache()
            self._warn(f"requests that ran were ended: {error}")
        except BaseException:  # Ctrl-C, SIGTERM
            fail(StoppedError())
            raise

    def _feed(self) -> tuple[Feeding, NextTokens] | None:
        """Feed a part of the prompts that came; at their end, with the first tokens."""
        if self._feeding and all(row.is_over for row in self._feeding.rows):
            self._feeding = None
        if self._feeding is None and (rows := self._admitted()):
            with _told(rows):
                self._feeding = Feeding(self.model, rows, self._edits, self._kept)
        fed = self._feeding
        if fed is None or not fed.feed(_BESIDE if self._rows.rows else _ALONE):
            return None
        first = fed.first(self._scale_of)
        self._feeding = None
        return fed, first

    def _fail_feeding(self, error: Exception) -> None:
        fed, self._feeding = self._feeding, None
        for row in fed.rows if fed else ():
            row.fail(error)

    def _admitted(self) -> list[Row]:
        """The rows that are fed next: as many as fit, the first ones first."""
        rows: list[Row] = []
        others = [row for row in self._rows.rows if not row.is_over]
        size, total = 0, 0
        while self._asked and len(rows) < self._together:
            row = self._asked[0]
            count = len(others) + len(rows) + 1
            longest = max(one.longest for one in (*others, *rows, row))
            fits = count <= self.most_rows and count * longest <= self.most_tokens
            length = len(row.ask.prompt)
            size, total = max(size, length), total + length
            # padding is work: prompts of about one length go together
            is_even = (len(rows) + 1) * size <= 1.5 * total + _BESIDE
            if ((rows or others) and not fits) or (rows and not is_even):
                break
            rows.append(self._asked.popleft())
        return rows

    def _next_scores(self) -> list[ScorePrompt]:
        works = [self._scores.popleft()]
        longest = len(works[0].prompt)
        while self._scores and len(works) < TOGETHER:
            longest = max(longest, len(self._scores[0].prompt))
            if (len(works) + 1) * longest > TOKENS:
                break
            works.append(self._scores.popleft())
        return works

    def _scale_of(self, circuit: Circuit) -> Scale:
        if id(circuit) not in self._scales:
            self._scales[id(circuit)] = Scale(circuit)
        return self._scales[id(circuit)]

    def _fail_all(self, error: Exception) -> None:
        for row in self._all_rows():
            row.fail(error)
        _fail([*self._scores, *self._lookups], error)
        self._rows.fail(error)
        self._feeding = None
        self._asked.clear()
        self._scores.clear()
        self._lookups.clear()


def _fail(works: Sequence[Work], error: Exception) -> None:
    for work in works:
        work.deliver(Failed(error))


@contextmanager
def _told(rows: Sequence[Row]) -> Iterator[None]:
    """Tell rows of an error inside the block, which goes on."""
    try:
        yield
    except BaseException as error:
        for row in rows:
            row.fail(error if isinstance(error, Exception) else StoppedError())
        raise
