"""The ozone market worked out again (protocol 4), in exact rationals.

`Market` is mutable and small: S, P, L, the rate and the deficit. Each method is one rule of protocol 4 and returns what
that rule produced, so that a finding can name the rule. It never refuses: whether a step was legal is the chain's
business; the oracle asks what a step that did happen must have produced.
"""

from dataclasses import dataclass
from fractions import Fraction

from orchestrator.audit.rational import quotient, trunc


@dataclass(slots=True)
class Market:
    """S, P in wei, L in noz (protocol 4, first paragraph)."""

    stake_wei: int
    """S: effective deposits of active meta nodes and of resource nodes."""
    pool_wei: int
    """P: balance of the unissued-prepay pool."""
    limit_noz: int
    """L: remaining ozone limit."""
    rate_wei: int
    """r: wei per noz that a deposit may issue."""
    deficit_noz: int = 0
    """What L could not give back when a deposit left (protocol 4.6)."""
    sold_noz: int = 0
    """Ozone sold and not yet reported: what L has to leave room for when the first deposit arrives."""

    @classmethod
    def at_genesis(cls, *, stake_wei: int, rate_wei: int) -> "Market":
        """Rule 4.1: L = trunc(S / r)."""
        return cls(stake_wei=stake_wei, pool_wei=0, limit_noz=stake_wei // rate_wei, rate_wei=rate_wei)

    def price(self) -> Fraction | None:
        """Rule 4.2: (S + P) / L wei per noz; None while nothing is for sale."""
        return quotient(self.stake_wei + self.pool_wei, self.limit_noz) if self.limit_noz > 0 else None

    def buy(self, amount_wei: int) -> int:
        """Rule 4.3: noz bought for `amount_wei`."""
        bought = trunc(quotient(self.limit_noz * amount_wei, self.stake_wei + self.pool_wei + amount_wei))
        self.pool_wei += amount_wei
        self.limit_noz -= bought
        self.sold_noz += bought
        return bought

    def traffic_reward(self, volume_noz: int) -> Fraction:
        """Rules 4.4 and 4.6: R = min((S + P) * Y / (L + Y), P), without moving anything."""
        reward = quotient((self.stake_wei + self.pool_wei) * volume_noz, self.limit_noz + volume_noz)
        return min(reward, Fraction(self.pool_wei))

    def settle(self, *, volume_noz: int, paid_wei: int) -> None:
        """Rule 4.4, second half: L += Y (a deficit is repaid first), P -= all that was paid out."""
        self._raise_limit(volume_noz)
        self.pool_wei -= paid_wei
        self.sold_noz = max(0, self.sold_noz - volume_noz)

    def add_stake(self, amount_wei: int) -> None:
        """Rule 4.6: a deposit is made effective."""
        if self.stake_wei == 0 and amount_wei > 0:
            free = amount_wei // self.rate_wei - self.sold_noz
            self.stake_wei = amount_wei
            self.limit_noz, self.deficit_noz = max(0, free), max(0, -free)
            return
        self.stake_wei += amount_wei
        self._raise_limit(amount_wei // self.rate_wei)

    def remove_stake(self, amount_wei: int) -> None:
        """Rule 4.6: a deposit is made ineffective; what L cannot give is kept as a deficit."""
        self.stake_wei -= amount_wei
        wanted = amount_wei // self.rate_wei
        taken = max(0, min(wanted, self.limit_noz - 1))
        self.limit_noz -= taken
        self.deficit_noz += wanted - taken

    def _raise_limit(self, noz: int) -> None:
        repaid = min(noz, self.deficit_noz)
        self.deficit_noz -= repaid
        self.limit_noz += noz - repaid
