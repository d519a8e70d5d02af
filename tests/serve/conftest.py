"""The demo's circuit, and a server of the demo for tests of other people's tools."""

from collections.abc import Iterator
from typing import Any

import pytest
from served import Served, served

from cna_mlx.circuit import Circuit
from cna_mlx.discovery.options import DiscoveryOptions
from cna_mlx.discovery.session import Session


@pytest.fixture(scope="session")
def magic(demo: tuple[Any, Any]) -> Circuit:
    """The demo's own circuit."""
    return Session.of(*demo).default_circuit(
        DiscoveryOptions(contrast="magic", fraction=0.0025, expect=False)
    )


@pytest.fixture(scope="module")
def server(demo: tuple[Any, Any], magic: Circuit) -> Iterator[Served]:
    with served(*demo, {"magic": magic}) as found:
        yield found
