"""Balances, account sequences, pools and the supply.

A pool is an ordinary balance under an address nobody has a key for: the first 20 bytes of SHA-256 of its name. Five
pools are public (protocol 5, `ledger replay`); deposits and stakes lie in two more, so that at any time the sum of all
balances is the supply, and every movement of money in the ledger is one `move`. Absent and 0 are the same balance.
"""

import hashlib

from stratos.ledger.errors import FUNDS, INVALID, LedgerError
from stratos.state import AmountTable, Branch, CounterTable, Reader
from stratos.wire.block import Event
from stratos.wire.txs import Send

BALANCES = AmountTable(b"bank/balance/")
SEQUENCES = CounterTable(b"bank/sequence/")
SUPPLY = AmountTable(b"bank/supply")


def pool_address(name: str) -> bytes:
    """The address of the pool called `name`."""
    return hashlib.sha256(name.encode()).digest()[:20]


FOUNDATION = pool_address("foundation")
COMMUNITY_POOL = pool_address("community_pool")
UNISSUED_PREPAY = pool_address("total_unissued_prepay")
TOTAL_REWARD = pool_address("total_reward_pool")
FEE_COLLECTOR = pool_address("fee_collector")
DEPOSITS = pool_address("node_deposits")
STAKES = pool_address("stakes")

PUBLIC_POOLS = {
    "foundation": FOUNDATION,
    "community_pool": COMMUNITY_POOL,
    "total_unissued_prepay": UNISSUED_PREPAY,
    "total_reward_pool": TOTAL_REWARD,
    "fee_collector": FEE_COLLECTOR,
}
_POOLS = frozenset({*PUBLIC_POOLS.values(), DEPOSITS, STAKES})


def balance(reader: Reader, address: bytes) -> int:
    """Wei of an address."""
    return BALANCES.get(reader, address)


def move(state: Branch, sender: bytes, recipient: bytes, amount_wei: int) -> None:
    """Move wei; LedgerError(funds) when the sender has too few. 0 moves nothing."""
    available = BALANCES.get(state, sender)
    if amount_wei > available:
        raise LedgerError(
            FUNDS, f"{sender.hex()} has {available} wei and {amount_wei} are needed; add funds or use a smaller amount"
        )
    if amount_wei > 0 and sender != recipient:
        BALANCES.set(state, sender, available - amount_wei)
        BALANCES.add(state, recipient, amount_wei)


def mint(state: Branch, recipient: bytes, amount_wei: int) -> None:
    """Create wei."""
    BALANCES.add(state, recipient, amount_wei)
    SUPPLY.add(state, b"", amount_wei)


def burn(state: Branch, holder: bytes, amount_wei: int) -> None:
    """Destroy wei that the holder has."""
    BALANCES.add(state, holder, -amount_wei)
    SUPPLY.add(state, b"", -amount_wei)


def supply(reader: Reader) -> int:
    """All wei that exist."""
    return SUPPLY.get(reader)


def sequence(reader: Reader, address: bytes) -> int:
    """The sequence the account's next transaction must carry; the first one is 0."""
    return SEQUENCES.get(reader, address)


def positive(text: str, what: str) -> int:
    """The amount in a message; LedgerError(invalid) when it is 0."""
    amount = int(text)
    if amount <= 0:
        raise LedgerError(INVALID, f"{what} is 0; it must be at least 1")
    return amount


def recipient_wallet(address: bytes) -> bytes:
    """`address`, refused when it is a pool: money sent there would have no owner and would bend the ozone price."""
    if address in _POOLS:
        raise LedgerError(INVALID, f"{address.hex()} is a pool of the ledger; name a wallet")
    return address


def handle_send(state: Branch, sender: bytes, message: Send) -> list[Event]:
    """Transfer between wallets. No event: the transaction itself says everything."""
    move(state, sender, recipient_wallet(message.recipient), positive(message.amount_wei, "the amount"))
    return []


def restore_supply(state: Branch, initial_wei: int) -> int:
    """Mint to or burn from the community pool so that the supply is the initial one; wei minted (negative: burned).

    Like the public network, nothing is burned when the pool holds less than the surplus (protocol 5).
    """
    missing = initial_wei - SUPPLY.get(state)
    if missing > 0:
        mint(state, COMMUNITY_POOL, missing)
    elif missing < 0:
        if BALANCES.get(state, COMMUNITY_POOL) < -missing:
            return 0
        burn(state, COMMUNITY_POOL, -missing)
    return missing
