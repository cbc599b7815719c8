"""The lottery is fair, bound to its seed, and keeps copies apart."""

from collections import Counter

from stratos.meta.placement import Candidate, Lottery, placement_seed, serving_order


def candidate(
    number: int, *, host: str | None = None, weight: int = 5_000, tier: int = 1, room: int = 10**9
) -> Candidate:
    return Candidate(bytes([number]) * 20, host or f"host{number}", weight, tier, room)


def seed(number: int) -> bytes:
    return placement_seed(
        digest=number.to_bytes(32, "big"), wallet=b"w" * 20, session=b"s" * 16, certificate=b"c" * 32, beacon=b"b" * 32
    )


def test_two_copies_never_share_a_host() -> None:
    """With three hosts and four copies wanted, three different hosts are chosen and nobody twice."""
    lottery = Lottery([candidate(i, host=f"host{i % 3}") for i in range(9)])
    for number in range(100):
        chosen = lottery.choose(seed(number), count=4, length=1)
        assert len(chosen) == 3
        assert len({address[0] % 3 for address in chosen}) == 3


def test_the_seed_alone_decides() -> None:
    """The same table in another order gives the same holders; another part of the seed gives others."""
    table = [candidate(i) for i in range(20)]
    one = [Lottery(table).choose(seed(n), count=4, length=1) for n in range(20)]
    two = [Lottery(reversed(table)).choose(seed(n), count=4, length=1) for n in range(20)]
    assert one == two
    assert len(set(one)) > 15


def test_half_the_score_gets_half_the_work() -> None:
    """First draws are proportional to the weight."""
    lottery = Lottery([candidate(0, weight=2_500), *(candidate(i) for i in range(1, 4))])
    wins = Counter(lottery.choose(seed(n), count=1, length=1)[0][0] for n in range(7_000))
    assert 850 < wins[0] < 1_150
    assert all(1_800 < wins[i] < 2_200 for i in range(1, 4))


def test_tier_room_and_exclusions_hold() -> None:
    """Too low a tier, too little room, excluded addresses and hosts are never chosen, however heavy."""
    lottery = Lottery(
        [
            candidate(0, tier=0, weight=10**6),
            candidate(1, room=9, weight=10**6),
            candidate(2, weight=10**6),
            candidate(3, weight=10**6),
            candidate(4, weight=1),
            candidate(5, weight=0),
        ]
    )
    for number in range(50):
        chosen = lottery.choose(
            seed(number), count=4, length=10, tier=1, without={bytes([2]) * 20}, without_hosts={"host3"}
        )
        assert chosen == (bytes([4]) * 20,)


def test_promised_room_is_used_once() -> None:
    """Space given away in one lottery is not given away again in the same block."""
    lottery = Lottery([candidate(0, room=25), candidate(1, room=1_000)])
    chosen = [lottery.choose(seed(n), count=2, length=10) for n in range(3)]
    assert [len(c) for c in chosen] == [2, 2, 1]


def test_serving_order_is_fixed_per_epoch_and_survives_changes() -> None:
    """A holder that leaves does not reorder the others; another epoch or wallet has another order."""
    holders = [bytes([i]) * 20 for i in range(8)]
    order = serving_order(b"w" * 20, b"d" * 32, 7, holders)
    assert sorted(order) == holders
    gone = order[3]
    assert serving_order(b"w" * 20, b"d" * 32, 7, [h for h in holders if h != gone]) == [h for h in order if h != gone]
    assert serving_order(b"w" * 20, b"d" * 32, 8, holders) != order
    assert serving_order(b"v" * 20, b"d" * 32, 7, holders) != order
