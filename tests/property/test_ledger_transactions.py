"""Whatever a transaction says, the ledger answers; it never raises, and a refusal costs the fee and nothing else."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.ledger import bank
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import CODES
from stratos.ledger.machine import Ledger
from stratos.state import AmountTable, Branch, MemoryStore
from stratos.wire import txs
from stratos.wire.codec import decode, encode
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, GenesisPrepay, GenesisValidator

STOS = 10**18
WALLETS = [WalletKey(bytes([number]) * 32) for number in (1, 2, 3)]
NODES = [NodeKey(bytes([number]) * 32) for number in range(1, 7)]
REFUSALS = AmountTable(b"register/refused/")

wallet = st.sampled_from([key.address for key in WALLETS] + [bank.FOUNDATION, b"\0" * 20])
node = st.sampled_from([key.address for key in NODES] + [b"\xff" * 20])
amount = st.one_of(st.integers(0, 9), st.integers(0, 10**21), st.just(10**31 - 1)).map(str)
number = st.one_of(st.integers(0, 5), st.just(2**63 - 1))
name = st.text(max_size=5)
key_index = st.integers(0, len(NODES) - 1)


def _registration(kind: type, index: int, deposit: str, beneficiary: bytes, label: str, owner: bytes) -> Any:
    key = NODES[index]
    unsigned = kind(key.public_key, deposit, beneficiary, label, label, label, b"\0" * 64)
    signature = key.sign(sign_bytes(txs.TAG_NODE, LEDGER.genesis_hash, txs.registration_body(owner, unsigned)))
    return kind(key.public_key, deposit, beneficiary, label, label, label, signature)


def _signed(message: Any, signers: int) -> Any:
    body = sign_bytes(txs.TAG_ACTION, LEDGER.genesis_hash, txs.action_body(message))
    return txs.with_signatures(
        message, tuple(txs.AuthoritySignature(key.address, key.sign(body)) for key in NODES[:signers])
    )


def _listed(key: NodeKey, effective: int = 0) -> GenesisNode:
    return GenesisNode(
        owner=WALLETS[0].address,
        beneficiary=WALLETS[1].address,
        node_public_key=key.public_key,
        deposit_wei=str(10 * STOS),
        effective_wei=str(effective),
    )


LEDGER = Ledger(
    Genesis(
        network="fuzz",
        time_ms=0,
        accounts=tuple(GenesisAccount(address=key.address, balance_wei=str(1000 * STOS)) for key in WALLETS),
        validators=(
            GenesisValidator(operator=WALLETS[0].address, node_public_key=NODES[5].public_key, stake_wei=str(STOS)),
        ),
        meta_nodes=tuple(_listed(key) for key in NODES[:3]),
        resource_nodes=(_listed(NODES[3]), _listed(NODES[4], STOS)),
        prepays=(GenesisPrepay(sender=WALLETS[0].address, beneficiary=WALLETS[0].address, amount_wei=str(10 * STOS)),),
    )
)

rows = st.lists(st.builds(txs.ReportRow, wallet, node, amount), max_size=4).map(tuple)
actions = st.one_of(
    st.builds(txs.SetEffectiveDeposit, number, node, amount, st.just(())),
    st.builds(txs.Suspend, number, node, st.just(())),
    st.builds(txs.Unsuspend, number, node, st.just(())),
    st.builds(txs.Slash, number, node, amount, st.booleans(), st.just(())),
    st.builds(txs.Leave, number, node, amount, st.booleans(), st.just(())),
    st.builds(txs.VolumeReport, number, rows, st.just(b"r" * 32), st.lists(node, max_size=2).map(tuple), st.just(())),
)
messages = st.one_of(
    st.builds(txs.Send, wallet, amount),
    st.builds(txs.Delegate, node, amount),
    st.builds(txs.Undelegate, node, amount),
    st.builds(txs.WithdrawDelegationRewards, node),
    st.builds(txs.CreateValidator, key_index.map(lambda i: NODES[i].public_key), amount, st.integers(0, 10_000), name),
    st.builds(txs.AnnounceValidator, node, st.sampled_from(("", "10.0.0.7:26656", "[2001:db8::1]:26656", "v.test:1"))),
    st.builds(txs.DoubleSignEvidence, node, st.binary(max_size=9), st.binary(max_size=9)),
    st.builds(txs.Prepay, wallet, amount),
    st.builds(_registration, st.just(txs.CreateResourceNode), key_index, amount, wallet, name, wallet),
    st.builds(_registration, st.just(txs.CreateMetaNode), key_index, amount, wallet, name, wallet),
    st.builds(txs.AddDeposit, node, amount),
    st.builds(txs.Unbond, node),
    st.builds(txs.Vote, node, node, st.booleans()),
    st.builds(txs.Kick, node, node),
    st.builds(txs.KickVote, node, node, st.booleans()),
    st.builds(txs.Withdraw, amount, wallet),
    st.builds(txs.ProposeUpgrade, node, st.integers(0, 3), st.integers(0, 99)),
    st.builds(txs.VoteUpgrade, node, st.integers(0, 3), st.integers(0, 99), st.booleans()),
    st.builds(txs.FileUpload, st.binary(min_size=24, max_size=26)),
    st.builds(_signed, actions, st.sampled_from((0, 2, 3, 3, 3))),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(WALLETS), messages, st.integers(0, 30)), max_size=25))
def test_every_transaction_gets_an_answer(given_messages: list[tuple[WalletKey, Any, int]]) -> None:
    """A code of the closed list, the supply intact, and after a refusal only fee and sequence moved."""
    state = Branch(MemoryStore())
    LEDGER.init_genesis(state)
    time_ms = 0
    for position, (key, message, days) in enumerate(given_messages):
        time_ms += days * 86_400_000
        context = BlockContext(height=position + 2, time_ms=time_ms, proposer=NODES[5].address)
        LEDGER.begin_block(state, context)
        assert decode(encode(message), txs.Message) == message  # type: ignore[arg-type]
        expected = Branch(state)
        sequence = bank.sequence(state, key.address)
        if bank.balance(state, key.address) >= LEDGER.rules.gas_price_wei:
            bank.move(expected, key.address, bank.FEE_COLLECTOR, LEDGER.rules.gas_price_wei)
            bank.SEQUENCES.set(expected, key.address, sequence + 1)
        tx = txs.Tx(txs.TxBody(message, sequence, ""), key.public_key, b"\0" * 64)
        result = LEDGER.deliver_tx(state, tx, context)
        assert result.code == "ok" or result.code in CODES
        if result.code != "ok":
            after = {k: v for k, v in state.items(b"") if not k.startswith(REFUSALS.prefix)}
            before = {k: v for k, v in expected.items(b"") if not k.startswith(REFUSALS.prefix)}
            assert after == before
        LEDGER.end_block(state, context)
        assert sum(held for _, held in bank.BALANCES.items(state)) == bank.supply(state)
