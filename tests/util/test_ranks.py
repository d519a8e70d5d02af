"""What ranks share; on one machine nothing happens."""

import subprocess
import sys

from rank_processes import ended, script, start

from cna_mlx.util import ranks
from cna_mlx.util.rank_link import RankLink

ALONE = """
import sys
from cna_mlx.util import rank_link, ranks
ranks.enter()
assert ranks.share(1) == 1 and ranks.count() == 1 and ranks.is_first()
assert rank_link.RankLink.connected() is None
assert "mlx" not in sys.modules
"""


def test_one_machine_shares_nothing() -> None:
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=60)
    value = object()
    assert ranks.share(value) is value
    assert ranks.first(lambda: value) is value
    assert ranks.each(lambda: value) is value
    assert ranks.chosen(value) is value
    assert ranks.part(value, None) is value
    assert ranks.gathered(value, None) is value
    stop = ranks.SharedStop(lambda: True)
    assert stop()
    assert RankLink.connected() is None


def test_two_ranks_share_what_rank_0_has() -> None:
    first, other = ended(start([script("shared_values.py")]))
    assert (first.code, first.out, first.err) == (0, "all", ""), first.err
    assert (other.code, other.out, other.err) == (0, "", ""), other.err
