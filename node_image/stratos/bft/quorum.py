"""How much is enough: the two thresholds of Byzantine agreement, by count and by weight.

Less than a third of the weight may lie. More than two thirds is therefore a quorum (two of them share an honest
member), and more than one third contains an honest member (enough to follow others into a later round). Integers
only: weights go up to 2**62 in total, and a float would round the last voter away.
"""


def quorum(count: int) -> int:
    """Members of a quorum among `count` equals: floor(2n/3) + 1 (protocol 1)."""
    return 2 * count // 3 + 1


def is_quorum(weight: int, total: int) -> bool:
    """More than two thirds of the total weight."""
    return 3 * weight > 2 * total


def has_honest(weight: int, total: int) -> bool:
    """More than one third of the total weight: at least one member is honest."""
    return 3 * weight > total
