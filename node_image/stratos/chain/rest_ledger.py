"""Endpoints about the ledger, as on the public net (protocol 8): register, pot, sds, and beside them bank and staking.

All values come from `stratos.ledger.queries`, so REST and `ledger replay` cannot differ; addresses become bech32 here.
"""

from typing import Any

from msgspec import to_builtins

from stratos.chain import openapi as api
from stratos.chain.application import ChainApplication
from stratos.chain.json_forms import to_json
from stratos.chain.openapi import Arguments, Endpoint, Param, listing, record
from stratos.crypto import bech32
from stratos.crypto.cid import parse_cid
from stratos.crypto.errors import CryptoError
from stratos.ledger import bank, distribution, queries, register, sds, staking
from stratos.ledger.errors import UNKNOWN, LedgerError
from stratos.ledger.machine import Ledger

_NODE = record(
    address=api.TEXT,
    public_key=api.HEX,
    owner=api.TEXT,
    beneficiary=api.TEXT,
    name=api.TEXT,
    host=api.TEXT,
    network_address=api.TEXT,
    deposit=api.INTEGER,
    effective_deposit=api.INTEGER,
    status={"type": "string", "enum": ["bonded", "unbonding", "unbonded"]},
    suspended=api.FLAG,
    creation_day=api.TEXT,
)
_META_NODE = {
    **_NODE,
    "properties": {
        **_NODE["properties"],
        "active": api.FLAG,
        "votes_for": api.INTEGER,
        "votes_against": api.INTEGER,
        "poll_expires_day": {"type": ["string", "null"]},
    },
}
_VALIDATOR = record(
    address=api.TEXT,
    public_key=api.HEX,
    operator=api.TEXT,
    name=api.TEXT,
    commission_bp=api.INTEGER,
    tokens_wei=api.INTEGER,
    commission_wei=api.INTEGER,
    jailed=api.FLAG,
    tombstoned=api.FLAG,
    network_address=api.TEXT,
)


class LedgerEndpoints:
    """The answers; `endpoints()` is their table."""

    def __init__(self, *, application: ChainApplication, ledger: Ledger) -> None:
        self._state = application.state
        self._ledger = ledger

    def endpoints(self) -> tuple[Endpoint, ...]:
        """The table."""
        return (*self._register(), *self._pot(), *self._sds(), *self._bank(), *self._staking())

    def _register(self) -> tuple[Endpoint, ...]:
        node = Param(name="address", kind=api.NODE_ADDRESS)
        state, rules = self._state, self._ledger.rules
        base = "/stratos/register/v1"
        return (
            Endpoint(
                path=f"{base}/resource_node/{{address}}",
                summary="A resource node's record.",
                answer=self.resource_node,
                schema=record(node=_NODE),
                params=(node,),
                missing=True,
                tag="register",
            ),
            Endpoint(
                path=f"{base}/meta_node/{{address}}",
                summary="A meta node's record with the votes about it.",
                answer=self.meta_node,
                schema=record(node=_META_NODE),
                params=(node,),
                missing=True,
                tag="register",
            ),
            Endpoint(
                path=f"{base}/resource_nodes",
                summary="Every registered resource node.",
                answer=lambda _: {"nodes": [self._node(one.address) for _, one in register.RESOURCE.items(state)]},
                schema=record(nodes=listing(_NODE)),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/meta_nodes",
                summary="Every registered meta node and candidate.",
                answer=lambda _: {"nodes": [self._meta(one.address) for _, one in register.META.items(state)]},
                schema=record(nodes=listing(_META_NODE)),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/deposit_total",
                summary="Locked deposits of both roles, and the effective ones, in wei.",
                answer=lambda _: {"deposit": queries.deposit_total(state)},
                schema=record(deposit=record(resource=api.INTEGER, meta=api.INTEGER, effective=api.INTEGER)),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/params",
                summary="Parameters of the register.",
                answer=lambda _: {"params": to_json(to_builtins(self._ledger.genesis.ledger.register))},
                schema=record(params=api.ANY_OBJECT),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/resource_node_count",
                summary="Bonded resource nodes.",
                answer=lambda _: {"number": queries.node_count(state, meta=False)},
                schema=record(number=api.INTEGER),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/meta_node_count",
                summary="Bonded meta nodes.",
                answer=lambda _: {"number": queries.node_count(state, meta=True)},
                schema=record(number=api.INTEGER),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/remaining_ozone_limit",
                summary="Ozone that can still be sold (L), in noz.",
                answer=lambda _: {"ozone_limit": queries.remaining_limit(state)},
                schema=record(ozone_limit=api.INTEGER),
                tag="register",
            ),
            Endpoint(
                path=f"{base}/overview",
                summary="The ozone market and the pools: S, P, L, r.",
                answer=lambda _: queries.overview(state, rules),
                schema=record(
                    S=api.INTEGER,
                    P=api.INTEGER,
                    L=api.INTEGER,
                    r=api.INTEGER,
                    pools={"type": "object", "additionalProperties": api.INTEGER},
                ),
                tag="register",
            ),
        )

    def _pot(self) -> tuple[Endpoint, ...]:
        epoch = Param(name="epoch", kind=api.EPOCH)
        wallet = Param(name="wallet", kind=api.WALLET_ADDRESS)
        state = self._state
        base = "/stratos/pot/v1"
        reward = record(wallet=api.TEXT, mining=api.INTEGER, traffic=api.INTEGER)
        return (
            Endpoint(
                path=f"{base}/volume_report/{{epoch}}",
                summary="The accepted report of an epoch.",
                answer=lambda arguments: {
                    "epoch": str(arguments["epoch"]),
                    "report": to_json(queries.report(state, arguments["epoch"])),
                },
                schema=record(epoch=api.INTEGER, report=api.ANY_OBJECT),
                params=(epoch,),
                missing=True,
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/rewards/epoch/{{epoch}}",
                summary="What the report of an epoch paid, by wallet.",
                answer=self.epoch_rewards,
                schema=record(rewards=listing(reward)),
                params=(epoch,),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/rewards/wallet/{{wallet}}",
                summary="Mature and immature rewards of a wallet, in wei.",
                answer=lambda arguments: queries.wallet_rewards(state, arguments["wallet"]),
                schema=record(mature=api.INTEGER, immature=api.INTEGER),
                params=(wallet,),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/slashing/{{wallet}}",
                summary="Slashing debt of a wallet, in wei.",
                answer=lambda arguments: {"slashing": queries.slashing(state, arguments["wallet"])},
                schema=record(slashing=api.INTEGER),
                params=(wallet,),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/params",
                summary="Parameters of Proof-of-Traffic.",
                answer=lambda _: {"params": to_json(to_builtins(self._ledger.genesis.ledger.pot))},
                schema=record(params=api.ANY_OBJECT),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/total_mined_token",
                summary="Wei mined so far.",
                answer=lambda _: {"total_mined_token": queries.total_mined(state)},
                schema=record(total_mined_token=api.INTEGER),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/circulation_supply",
                summary="Supply less what is still to be mined, in wei.",
                answer=lambda _: {"circulation_supply": queries.circulation_supply(state)},
                schema=record(circulation_supply=api.INTEGER),
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/total_reward/{{epoch}}",
                summary="All that the report of an epoch paid, in wei.",
                answer=self.total_reward,
                schema=record(
                    epoch=api.INTEGER, total_reward=record(mining=api.INTEGER, traffic=api.INTEGER, tax=api.INTEGER)
                ),
                params=(epoch,),
                missing=True,
                tag="pot",
            ),
            Endpoint(
                path=f"{base}/last_epoch",
                summary="The last epoch with an accepted report, 0 before the first.",
                answer=lambda _: {"epoch": str(queries.last_epoch(state))},
                schema=record(epoch=api.INTEGER),
                tag="pot",
            ),
        )

    def _sds(self) -> tuple[Endpoint, ...]:
        state, rules = self._state, self._ledger.rules
        base = "/stratos/sds/v1"
        return (
            Endpoint(
                path=f"{base}/file_upload/{{hash}}",
                summary="Who recorded a file on the chain, and when.",
                answer=self.file_upload,
                schema=record(file_info=record(uploader=api.TEXT, height=api.INTEGER)),
                params=(Param(name="hash", kind=api.FILE_HASH),),
                missing=True,
                tag="sds",
            ),
            Endpoint(
                path=f"{base}/sim_prepay/{{amount}}",
                summary="Noz that a prepay of so many wei would buy now.",
                answer=lambda arguments: {"noz": queries.sim_prepay(state, arguments["amount"])},
                schema=record(noz=api.INTEGER),
                params=(Param(name="amount", kind=api.AMOUNT),),
                conflict=True,
                tag="sds",
            ),
            Endpoint(
                path=f"{base}/noz_price",
                summary="Wei per noz, 18 places.",
                answer=lambda _: {"price": queries.noz_price(state)},
                schema=record(price=api.DECIMAL),
                conflict=True,
                tag="sds",
            ),
            Endpoint(
                path=f"{base}/noz_supply",
                summary="Remaining ozone limit, and all noz that effective deposits back.",
                answer=lambda _: queries.noz_supply(state, rules),
                schema=record(remaining=api.INTEGER, total=api.INTEGER),
                tag="sds",
            ),
            Endpoint(
                path=f"{base}/params",
                summary="Parameters of the ozone market.",
                answer=lambda _: {"params": to_json(to_builtins(self._ledger.genesis.ledger.sds))},
                schema=record(params=api.ANY_OBJECT),
                tag="sds",
            ),
        )

    def _bank(self) -> tuple[Endpoint, ...]:
        state = self._state
        return (
            Endpoint(
                path="/stratos/bank/v1/balances/{address}",
                summary="Wei of a wallet.",
                answer=lambda arguments: {"balance_wei": queries.balance(state, arguments["address"])},
                schema=record(balance_wei=api.INTEGER),
                params=(Param(name="address", kind=api.WALLET_ADDRESS),),
                tag="bank",
            ),
            Endpoint(
                path="/stratos/bank/v1/pools",
                summary="Wei of each pool.",
                answer=lambda _: {
                    "pools": {name: queries.balance(state, address) for name, address in bank.PUBLIC_POOLS.items()}
                },
                schema=record(pools={"type": "object", "additionalProperties": api.INTEGER}),
                tag="bank",
            ),
            Endpoint(
                path="/stratos/bank/v1/supply",
                summary="All wei that exist.",
                answer=lambda _: {"supply_wei": queries.supply(state)},
                schema=record(supply_wei=api.INTEGER),
                tag="bank",
            ),
        )

    def _staking(self) -> tuple[Endpoint, ...]:
        state = self._state
        base = "/stratos/staking/v1"
        return (
            Endpoint(
                path=f"{base}/validators",
                summary="Every validator's record.",
                answer=lambda _: {
                    "validators": [self._validator(one) for _, one in distribution.VALIDATORS.items(state)]
                },
                schema=record(validators=listing(_VALIDATOR)),
                tag="staking",
            ),
            Endpoint(
                path=f"{base}/validator/{{address}}",
                summary="A validator's record.",
                answer=lambda arguments: {"validator": self._validator(staking.validator(state, arguments["address"]))},
                schema=record(validator=_VALIDATOR),
                params=(Param(name="address", kind=api.NODE_ADDRESS),),
                missing=True,
                tag="staking",
            ),
            Endpoint(
                path=f"{base}/delegations/{{wallet}}",
                summary="Stake of a wallet by validator, with the rewards it could claim, in wei.",
                answer=self.delegations,
                schema=record(
                    delegations=listing(record(validator=api.TEXT, stake_wei=api.INTEGER, rewards_wei=api.INTEGER))
                ),
                params=(Param(name="wallet", kind=api.WALLET_ADDRESS),),
                tag="staking",
            ),
            Endpoint(
                path=f"{base}/params",
                summary="Parameters of staking.",
                answer=lambda _: {"params": to_json(to_builtins(self._ledger.genesis.ledger.staking))},
                schema=record(params=api.ANY_OBJECT),
                tag="staking",
            ),
        )

    def resource_node(self, arguments: Arguments) -> Any:
        return {"node": self._node(arguments["address"])}

    def meta_node(self, arguments: Arguments) -> Any:
        return {"node": self._meta(arguments["address"])}

    def epoch_rewards(self, arguments: Arguments) -> Any:
        paid = queries.epoch_rewards(self._state, arguments["epoch"])
        return {"rewards": [{"wallet": _wallet(wallet), **amounts} for wallet, amounts in paid.items()]}

    def total_reward(self, arguments: Arguments) -> Any:
        report = queries.report(self._state, arguments["epoch"])
        return {
            "epoch": str(arguments["epoch"]),
            "total_reward": {
                "mining": report.mining_paid_wei,
                "traffic": report.traffic_paid_wei,
                "tax": report.tax_wei,
            },
        }

    def file_upload(self, arguments: Arguments) -> Any:
        text = arguments["hash"]
        try:
            cid = parse_cid(text)
        except CryptoError as error:
            raise LedgerError(UNKNOWN, f"no file {text[:60]!r} was recorded on the chain: {error}") from error
        found = sds.FILES.get(self._state, cid)
        if found is None:
            raise LedgerError(
                UNKNOWN, f"no file {text} was recorded on the chain; its uploader may not have published it"
            )
        return {"file_info": {"uploader": _wallet(found.uploader), "height": str(found.height)}}

    def delegations(self, arguments: Arguments) -> Any:
        found = []
        for address, validator in distribution.VALIDATORS.items(self._state):
            delegation = distribution.DELEGATIONS.get(self._state, address + arguments["wallet"])
            if delegation is not None:
                found.append(
                    {
                        "validator": _node_text(address),
                        "stake_wei": str(validator.worth(delegation)),
                        "rewards_wei": str(distribution.pending_rewards(validator, delegation)),
                    }
                )
        return {"delegations": found}

    def _node(self, address: bytes) -> dict[str, Any]:
        facts = queries.resource_node(self._state, self._ledger.rules, address, genesis_ms=self._ledger.genesis.time_ms)
        return {**_identity(register.resource(self._state, address)), **facts}

    def _meta(self, address: bytes) -> dict[str, Any]:
        facts = queries.meta_node(self._state, self._ledger.rules, address, genesis_ms=self._ledger.genesis.time_ms)
        return {**_identity(register.find(self._state, address)[1]), **facts}

    def _validator(self, found: distribution.ValidatorRecord) -> dict[str, Any]:
        return {
            "address": _node_text(found.address),
            "public_key": found.public_key.hex(),
            "operator": _wallet(found.operator),
            "name": found.name,
            "commission_bp": str(found.commission_bp),
            "tokens_wei": found.tokens_wei,
            "commission_wei": found.commission_wei,
            "jailed": found.jailed,
            "tombstoned": found.tombstoned,
            "network_address": staking.NETWORK_ADDRESSES.get(self._state, found.address) or "",
        }


def _identity(node: register.Node) -> dict[str, Any]:
    return {
        "address": _node_text(node.address),
        "public_key": node.public_key.hex(),
        "owner": _wallet(node.owner),
        "beneficiary": _wallet(node.beneficiary),
        "name": node.name,
        "host": node.host,
        "network_address": node.network_address,
    }


def _wallet(address: bytes) -> str:
    return bech32.encode(bech32.WALLET, address)


def _node_text(address: bytes) -> str:
    return bech32.encode(bech32.NODE, address)
