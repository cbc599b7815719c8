"""The lottery: which holders get a copy, as a pure function of a seed and a table of candidates (protocol 7).

Each draw takes a holder with a chance proportional to its score; a draw that lands on a host that already has a copy is
drawn again, so two copies never share a host. The seed is
BLAKE3(slice digest || wallet || session || certificate hash || beacon), where the certificate is that of the meta block
after the one that ordered the request: nobody, not even the proposer, knew it when the request was ordered, and anybody can
recompute the lot afterwards. (The digest stands where the rule says slice CID, because a CID depends on the hash of the
whole file and bytes move before that is known.)

`serving_order` is the one fixed order in which holders of a slice serve a wallet during an epoch: by BLAKE3 of
(wallet, slice, epoch, holder), so that a holder that comes or goes never reorders the others.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from itertools import accumulate

from blake3 import blake3
from msgspec import Struct


class Candidate(Struct, frozen=True, array_like=True):
    """A holder that may get work: `host` groups nodes of one machine, `weight` is its score, `room` its free bytes."""

    address: bytes
    host: str
    weight: int
    tier: int
    room: int


def placement_seed(*, digest: bytes, wallet: bytes, session: bytes, certificate: bytes, beacon: bytes) -> bytes:
    """Seed of one slice's lottery."""
    return blake3(digest + wallet + session + certificate + beacon).digest()


def serving_order(wallet: bytes, digest: bytes, epoch: int, holders: Iterable[bytes]) -> list[bytes]:
    """Holders of a slice in the order in which they serve this wallet in this epoch."""
    stem = wallet + digest + epoch.to_bytes(8, "big")
    return sorted(holders, key=lambda holder: blake3(stem + holder).digest())


class Lottery:
    """Weighted draws without replacement from one table of candidates, many times over."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = tuple(
            sorted((c for c in candidates if c.weight > 0), key=lambda candidate: candidate.address)
        )
        self._ends = list(accumulate(candidate.weight for candidate in self.candidates))
        self._promised: dict[bytes, int] = {}

    def choose(
        self,
        seed: bytes,
        *,
        count: int,
        length: int,
        tier: int = 0,
        without: Collection[bytes] = (),
        without_hosts: Collection[str] = (),
    ) -> tuple[bytes, ...]:
        """Up to `count` addresses, fewer when there are not enough; their promised space is remembered."""
        chosen: list[Candidate] = []
        hosts = set(without_hosts)
        draw = 0
        for _ in range(count):
            winner = None
            # Rejection is cheap while most candidates are free; the exact table below ends every unlucky streak.
            for _ in range(8):
                candidate = self._drawn(seed, draw)
                draw += 1
                if candidate is None:
                    break
                if self._fits(candidate, length, tier, without, hosts):
                    winner = candidate
                    break
            if winner is None:
                free = [c for c in self.candidates if self._fits(c, length, tier, without, hosts)]
                if not free:
                    break
                winner = _pick(free, _number(seed, draw))
                draw += 1
            chosen.append(winner)
            hosts.add(winner.host)
        for candidate in chosen:
            self._promised[candidate.address] = self._promised.get(candidate.address, 0) + length
        return tuple(candidate.address for candidate in chosen)

    def hosts(self, *, length: int = 0, tier: int = 0, without: Collection[bytes] = ()) -> int:
        """How many different hosts could take a copy."""
        return len({c.host for c in self.candidates if self._fits(c, length, tier, without, ())})

    def _drawn(self, seed: bytes, draw: int) -> Candidate | None:
        if not self._ends:
            return None
        return self.candidates[bisect_right(self._ends, _number(seed, draw) % self._ends[-1])]

    def _fits(
        self, candidate: Candidate, length: int, tier: int, without: Collection[bytes], hosts: Collection[str]
    ) -> bool:
        return (
            candidate.host not in hosts
            and candidate.tier >= tier
            and candidate.address not in without
            and candidate.room - self._promised.get(candidate.address, 0) >= length
        )


def _number(seed: bytes, draw: int) -> int:
    return int.from_bytes(blake3(seed + draw.to_bytes(4, "big")).digest()[:16], "big")


def _pick(free: list[Candidate], number: int) -> Candidate:
    ends = list(accumulate(candidate.weight for candidate in free))
    return free[bisect_right(ends, number % ends[-1])]
