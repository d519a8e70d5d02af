"""The circuit of an earlier search, from the cache."""

from contextlib import suppress
from pathlib import Path

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.cache import Store, identity_of
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session
from cna_mlx.errors import CnaError, InputError, RequestError
from cna_mlx.models.families import widths
from cna_mlx.models.fingerprint import fingerprint
from cna_mlx.search.reading import VERSION
from cna_mlx.search.search import Shown, search_session
from cna_mlx.util import ranks
from cna_mlx.util.files import check_writable, file_errors


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during a search that has a circuit to show, not judged.

    Attributes:
        file: of the best circuit so far.
    """

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file


def keep_searched(
    session: Session,
    discovery: DiscoveryOptions,
    circuit: Circuit,
    *,
    is_whole: bool = True,
) -> str:
    """Keep a found circuit for :func:`searched_circuit`; returns its file.

    One of a search that did not end is kept apart, and is not used again.

    Raises:
        InputError: it cannot be written.
    """
    path = _place(session, discovery, is_whole)
    _check(path)
    circuit.save(path)
    return str(path)


def _check(path: Path) -> None:
    """Raise InputError for a file that cannot be written."""
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path)


def searched_circuit(
    session: Session,
    discovery: DiscoveryOptions,
    shown: Shown = lambda standings: None,
) -> str:
    """The file of the circuit that a search finds: of an earlier one, else a new one.

    Raises:
        RequestError: no circuit lowers refusals within the damage that is allowed.
        InputError: the circuit could not be kept.
        SearchInterrupted: the search was interrupted; the best circuit so far is kept.
        KeyboardInterrupt: it was interrupted, and no circuit did enough.
        as :func:`search_session`.
    """
    if ranks.count() > 1:
        raise InputError("a search works on one machine: start it without mlx.launch")
    path = _place(session, discovery, is_whole=True)
    with suppress(CnaError):
        model, _ = session.load()
        found = Circuit.load(path)
        found.check_model(widths(model), fingerprint(model))
        if found.is_from(discovery.prompts(session.name).half(0).sha256):
            session.reporter.note(f"the circuit of an earlier search: {path}")
            return str(path)
    _check(path)  # before the search, which takes minutes
    result = search_session(session, discovery, shown=shown)
    if not result.is_whole:
        if result.circuit is None:
            raise KeyboardInterrupt
        file = keep_searched(session, discovery, result.circuit, is_whole=False)
        session.reporter.note(f"the best circuit so far, not judged: {file}")
        raise SearchInterrupted(file)
    if result.circuit is None:
        most = max(one.candidate.size for one in result.standings)
        raise RequestError(
            f"no circuit of up to {most} neurons lowers refusals without damage; leave "
            "out --search for the paper's"
        )
    session.reporter.note(f"the search chose {result.chosen.candidate.title}")
    return keep_searched(session, discovery, result.circuit)


def _place(session: Session, discovery: DiscoveryOptions, is_whole: bool) -> Path:
    contrast = discovery.prompts(session.name)
    fraction = discovery.selection(session.name).fraction
    return Store().place(
        "searches",
        {
            **identity_of(*session.load(), session.rendering),
            "algorithm": VERSION,
            "contrast": contrast.sha256,
            "fraction": fraction,
            "universal": discovery.universal,
            **({} if is_whole else {"interrupted": True}),
        },
    )
