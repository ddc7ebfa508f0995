"""The reward at `submit`, as InterCode defines it (Yang et al. 2023, and its SQL environment)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hpl_gym.core import MissingExtraError


def score(rows: Sequence[str] | None, gold: Sequence[str]) -> float:
    """Return the reward for answering with `rows`.

    The intersection over union of the two multisets of rows, times Kendall's tau-b for the order:
    of the rows in common, those of the answer and those of the gold query, each in their own order,
    are paired place by place, and tau compares how their texts sort. It is 1 for equal orders, and
    counts 1 where it is not defined (one row in common, or all the same). InterCode gives the same
    product rounded to two digits; where it would be negative, this is 0.

    Args:
        rows: Rows of the last statement, each as text; None if it gave none or failed.
        gold: Rows of the gold query.

    Returns:
        In [0, 1]; 1 also if both are empty.
    """
    if rows is None:
        return 0.0
    mine, wanted = Counter(rows), Counter(gold)
    union = (mine | wanted).total()
    if not union:
        return 1.0
    common = mine & wanted
    overlap = common.total() / union
    first, second = _kept(rows, common), _kept(gold, common)
    if first == second:
        return overlap
    return max(0.0, overlap * _tau(first, second))


def _kept(rows: Sequence[str], common: Counter[str]) -> list[str]:
    left = common.copy()
    kept = []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
            kept.append(row)
    return kept


def _tau(first: list[str], second: list[str]) -> float:
    try:
        from scipy.stats import kendalltau
    except ImportError as error:
        raise MissingExtraError(
            "InterCode-SQL's reward needs the sql extra: pip install 'hpl-gym[sql]'."
        ) from error
    rank = {row: place for place, row in enumerate(sorted(set(first)))}
    return float(kendalltau([rank[row] for row in first], [rank[row] for row in second]).statistic)
