"""Runs a checked script: every step in its own block, through the very handlers that the chain runs.

Steps carry no fee and no wallet signature (the ledger is called where the chain calls it after checking both), but
authorities really sign and the ledger really counts. A refused step leaves the state as it was before the step; its
block takes place all the same, so time passes and the supply is restored. A query sees its block after what was due at its
beginning and before its end.
"""

from typing import Any

from orchestrator.replay.names import Names
from orchestrator.replay.problems import at, at_step
from orchestrator.replay.queries import answer, by_name
from orchestrator.replay.script import NodeEntry, Script, Step
from stratos.crypto.signing import sign_bytes
from stratos.ledger import queries, register
from stratos.ledger.context import BlockContext
from stratos.ledger.distribution import VALIDATORS
from stratos.ledger.errors import LedgerError
from stratos.ledger.events import OZONE_BOUGHT, REPORT_INCLUDED, attributes
from stratos.ledger.machine import Ledger
from stratos.ledger.register import META, RESOURCE
from stratos.ledger.rulebook import UnknownRules
from stratos.state import Branch, MemoryStore
from stratos.wire import txs
from stratos.wire.block import Event
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, GenesisValidator

_NO_SIGNATURE = b"\0" * 64


def replay(script: Script) -> dict[str, Any]:
    """The output document of a script; ScriptProblem when its genesis cannot be."""
    return {"steps": Runner(script).run()}


class Runner:
    """One run of one script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._names = Names()
        self._store = MemoryStore()
        self._actions = 0
        try:
            self._ledger = Ledger(_genesis(script, self._names))
            first = Branch(self._store)
            self._ledger.init_genesis(first)
        except LedgerError as error:
            raise at("genesis", self._names.named(error.sentence)) from error
        except UnknownRules as error:
            raise at("params.rules_version", str(error)) from error
        self._store.apply(first.changes())

    @property
    def state(self) -> MemoryStore:
        """The state after the last step."""
        return self._store

    def run(self) -> list[dict[str, Any]]:
        """Results of all steps, in order."""
        return [self.step(step) for step in self._script.steps]

    def step(self, step: Step) -> dict[str, Any]:
        """Run one step in its own block; its result."""
        block = Branch(self._store)
        context = BlockContext(height=step.height, time_ms=step.time_ms)
        try:
            self._ledger.begin_block(block, context)
        except UnknownRules as error:
            raise at_step(step.index, step.action, "height", str(error)) from error
        events: list[Event] = []
        result: dict[str, Any] = {"ok": True}
        try:
            if step.action == "query":
                result["result"] = answer(step.fields["what"], block, self._ledger.rules, self._names)
            elif step.action != "end_block":
                effects = block.branch()
                sender, message = self._message(step, block)
                events = self._ledger.handle(effects, sender, message, context)
                effects.merge()
                result.update(self._figures(step, block, events))
        except LedgerError as error:
            result = {"ok": False, "error": self._names.named(error.sentence), "code": error.code}
        end = self._ledger.end_block(block, context)
        if result["ok"] and step.action != "query":
            result["events"] = [self._event(event) for event in (*events, *end.events)]
        self._store.apply(block.changes())
        return result

    def _message(self, step: Step, state: Branch) -> tuple[bytes, txs.Message]:
        """(sender, message) of a step that is one."""
        given = step.fields
        wallet, node = self._names.wallet, self._names.node
        match step.action:
            case "prepay":
                beneficiary = wallet(given["beneficiary"] or given["from"])
                return wallet(given["from"]), txs.Prepay(beneficiary, str(given["amount"]))
            case "send":
                return wallet(given["from"]), txs.Send(wallet(given["to"]), str(given["amount"]))
            case "withdraw":
                recipient = wallet(given["to"] or given["wallet"])
                return wallet(given["wallet"]), txs.Withdraw(str(given["amount"]), recipient)
            case "delegate":
                return wallet(given["from"]), txs.Delegate(node(given["validator"]), str(given["amount"]))
            case "undelegate":
                return wallet(given["from"]), txs.Undelegate(node(given["validator"]), str(given["amount"]))
            case "create_resource_node" | "create_meta_node":
                return self._registration(step)
            case "add_deposit":
                sender = self._owner(state, given["node"], given["from"])
                return sender, txs.AddDeposit(node(given["node"]), str(given["amount"]))
            case "unbond":
                return self._owner(state, given["node"], given["from"]), txs.Unbond(node(given["node"]))
            case "vote":
                message = txs.Vote(node(given["voter"]), node(given["candidate"]), given["approve"])
                return self._owner(state, given["voter"], None), message
            case "kick":
                return self._owner(state, given["from"], None), txs.Kick(node(given["from"]), node(given["node"]))
            case "kick_vote":
                ballot = txs.KickVote(node(given["voter"]), node(given["candidate"]), given["approve"])
                return self._owner(state, given["voter"], None), ballot
            case "propose_upgrade" | "vote_upgrade":
                return self._upgrade(step, state)
            case _:
                return b"\0" * 20, self._signed(self._action(step, state), given["signers"], state)

    def _upgrade(self, step: Step, state: Branch) -> tuple[bytes, txs.Message]:
        """A proposal or vote, by the operator of the validator."""
        given = step.fields
        address = self._names.node(given["validator"])
        record = VALIDATORS.get(state, address)
        sender = self._names.wallet(given["validator"]) if record is None else record.operator
        version, height = given["rules_version"], given["at_height"]
        if step.action == "propose_upgrade":
            return sender, txs.ProposeUpgrade(address, version, height)
        return sender, txs.VoteUpgrade(address, version, height, given["approve"])

    def _action(self, step: Step, state: Branch) -> txs.ActionMessage:
        given = step.fields
        if step.action == "volume_report":
            served: dict[bytes, list[bytes]] = {}
            for address, listed in RESOURCE.items(state):
                served.setdefault(listed.beneficiary, []).append(address)
            rows = tuple(self._row(state, served, name, noz) for name, noz in given["volumes"])
            withheld = tuple(self._names.node(name) for name in given["withheld"])
            return txs.VolumeReport(given["epoch"], rows, b"\0" * 32, withheld, ())
        self._actions += 1
        number, node = self._actions, self._names.node(given["node"])
        match step.action:
            case "set_effective_deposit":
                return txs.SetEffectiveDeposit(number, node, str(given["amount"]), ())
            case "suspend":
                return txs.Suspend(number, node, ())
            case "unsuspend":
                return txs.Unsuspend(number, node, ())
            case "slash":
                return txs.Slash(number, node, str(given["noz"]), given["suspend"], ())
            case _:
                return txs.Leave(number, node, str(given["migrated_noz"]), given["completed"], ())

    def _signed(self, message: txs.ActionMessage, signers: tuple[str, ...] | None, state: Branch) -> txs.ActionMessage:
        """The message with real signatures of the named meta nodes; None: of all active ones."""
        if signers is None:
            signers = tuple(self._names.name_of(node.address) for node in register.active_meta(state))
        signed = sign_bytes(txs.TAG_ACTION, self._ledger.genesis_hash, txs.action_body(message))
        signatures = []
        for name in signers:
            key = self._names.node_key(name)
            signatures.append(txs.AuthoritySignature(key.address, key.sign(signed)))
        return txs.with_signatures(message, tuple(signatures))

    def _registration(self, step: Step) -> tuple[bytes, txs.Message]:
        given = step.fields
        owner = self._names.wallet(given["owner"] or given["name"])
        beneficiary = self._names.wallet(given["beneficiary"] or given["owner"] or given["name"])
        key = self._names.node_key(given["name"])
        kind = txs.CreateResourceNode if step.action == "create_resource_node" else txs.CreateMetaNode
        arguments = (key.public_key, str(given["deposit"]), beneficiary, given["name"], "", "")
        unsigned = kind(*arguments, _NO_SIGNATURE)
        body = txs.registration_body(owner, unsigned)
        return owner, kind(*arguments, key.sign(sign_bytes(txs.TAG_NODE, self._ledger.genesis_hash, body)))

    def _row(self, state: Branch, served: dict[bytes, list[bytes]], name: str, noz: int) -> txs.ReportRow:
        """A row for a node (paid to its beneficiary) or, when no node has the name, for the wallet itself.

        A wallet's row is counted for its node when it is the beneficiary of exactly one (`served`: nodes by wallet).
        """
        address = self._names.node(name)
        node = RESOURCE.get(state, address)
        if node is not None:
            return txs.ReportRow(node.beneficiary, address, str(noz))
        wallet = self._names.wallet(name)
        nodes = served.get(wallet, [])
        return txs.ReportRow(wallet, nodes[0] if len(nodes) == 1 else b"\0" * 20, str(noz))

    def _owner(self, state: Branch, name: str, given: str | None) -> bytes:
        """Who sends a message about a node: who the step says, else the node's owner, else the wallet of that name."""
        if given is not None:
            return self._names.wallet(given)
        address = self._names.node(name)
        node = RESOURCE.get(state, address) or META.get(state, address)
        return self._names.wallet(name) if node is None else node.owner

    def _figures(self, step: Step, state: Branch, events: list[Event]) -> dict[str, Any]:
        """What a step reports beside its events."""
        by_kind = {event.kind: attributes(event) for event in reversed(events)}
        if step.action == "prepay":
            return {"bought": by_kind[OZONE_BOUGHT]["noz"]}
        if step.action == "volume_report":
            told = by_kind[REPORT_INCLUDED]
            paid = queries.epoch_rewards(state, step.fields["epoch"])
            return {
                "traffic_reward": told["traffic_reward"],
                "split": {part: told[f"traffic_{part}"] for part in ("chain", "resource", "meta")},
                "mining": {part: told[f"mining_{part}"] for part in ("chain", "resource", "meta")},
                "paid": by_name(paid, self._names),
                "tax": told["tax"],
                "P": told["prepay_pool"],
                "L": told["remaining_limit"],
            }
        released = [told["release_ms"] for told in by_kind.values() if "release_ms" in told]
        if step.action in ("unbond", "undelegate") and released:
            return {"mature_day": self._day(released[0])}
        return {}

    def _event(self, event: Event) -> dict[str, str]:
        """An event with names for addresses and days for times."""
        shown = {"kind": event.kind}
        for name, value in event.attributes:
            if name.endswith("_ms"):
                shown[name.removesuffix("_ms") + "_day"] = self._day(value)
            else:
                shown[name] = self._names.named(value)
        return shown

    def _day(self, time_ms: str) -> str:
        return queries.day_text(int(time_ms), self._ledger.rules.day_ms)


def _genesis(script: Script, names: Names) -> Genesis:
    listed = script.genesis
    return Genesis(
        network="replay",
        time_ms=0,
        ledger=script.params,
        foundation_wei=str(listed.foundation),
        total_mined_wei=str(listed.total_mined),
        accounts=tuple(
            GenesisAccount(address=names.wallet(name), balance_wei=str(amount))
            for name, amount in listed.accounts.items()
        ),
        validators=tuple(
            GenesisValidator(
                operator=names.wallet(entry.owner),
                node_public_key=names.node_key(entry.name).public_key,
                stake_wei=str(entry.deposit),
                commission_bp=entry.commission_bp,
                name=entry.name,
            )
            for entry in listed.validators
        ),
        meta_nodes=tuple(_node(entry, names) for entry in listed.meta_nodes),
        resource_nodes=tuple(_node(entry, names) for entry in listed.resource_nodes),
    )


def _node(entry: NodeEntry, names: Names) -> GenesisNode:
    return GenesisNode(
        owner=names.wallet(entry.owner),
        beneficiary=names.wallet(entry.beneficiary),
        node_public_key=names.node_key(entry.name).public_key,
        deposit_wei=str(entry.deposit),
        effective_wei=str(entry.effective),
        name=entry.name,
    )
