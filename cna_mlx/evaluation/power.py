"""Compute what fall a run's prompts and controls could show, before it starts."""

from math import exp, lgamma, log

# With fewer refusals lost, and none gained, McNemar's exact p is above 0.05.
_FEWEST_LOST = 6


def power(
    n: int, k: int, fall: float, baseline: float = 0.9, control: float = 0.1
) -> float:
    """Return the probability that a run shows a fall in refusals.

    The circuit and each control lose refusals independently (binomial). The fall is
    shown if McNemar's exact test against the baseline gives p < 0.05, and the circuit's
    rank among the controls p <= 0.05; with fewer than 19 controls, where that cannot
    be, if it loses more than all of them.

    Args:
        n: harmful prompts.
        k: matched controls.
        fall: the circuit's expected fall, in percentage points of all prompts.
        baseline: share of the prompts that the model refuses.
        control: share of these refusals that a control loses.
    """
    refused = round(n * baseline)
    if not refused:
        return 0.0
    lost = _binomial(refused, min(1.0, fall / 100 * n / refused))
    by_control = _binomial(refused, control)
    # how many controls may lose as much as the circuit
    ties = max(0, (k + 1) // 20 - 1)
    return sum(
        lost[count] * sum(_binomial(k, min(1.0, sum(by_control[count:])))[: ties + 1])
        for count in range(_FEWEST_LOST, refused + 1)
    )


def smallest_fall(n: int, k: int, at_least: float = 0.8) -> float | None:
    """The smallest fall, in whole points, with a power of ``at_least``.

    Returns None if even losing every refusal is not enough. Arguments are those of
    :func:`power`.
    """
    falls = (float(points) for points in range(1, 91))
    return next((fall for fall in falls if power(n, k, fall) >= at_least), None)


def worth(controls: int, stand_ins: float | None) -> int:
    """As how many controls they count: fewer where they share neurons.

    Args:
        controls: how many there are.
        stand_ins: :func:`cna_mlx.discovery.controls.stand_ins`; None if unknown.
    """
    return controls if stand_ins is None else min(controls, round(stand_ins))


def _binomial(n: int, p: float) -> list[float]:
    """The probability of each count from 0 to n."""
    if p in (0.0, 1.0):
        return [float(count == n * p) for count in range(n + 1)]
    return [
        exp(
            lgamma(n + 1)
            - lgamma(count + 1)
            - lgamma(n - count + 1)
            + count * log(p)
            + (n - count) * log(1 - p)
        )
        for count in range(n + 1)
    ]
