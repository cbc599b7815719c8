"""The genesis hash names a network for ever: parameters that came later do not change it while they have their default."""

from pathlib import Path

import msgspec
import pytest

from stratos.wire.genesis import (
    Genesis,
    GenesisAccount,
    GenesisError,
    LedgerParams,
    StakingParams,
    genesis_hash,
    load_genesis,
)


def test_networks_made_before_rules_had_versions_keep_their_hash() -> None:
    """The two hashes were computed by a program that had neither parameter."""
    assert genesis_hash(Genesis(network="golden", time_ms=0)).hex() == (
        "1d7cff347e861a96f1dba131cc5a0860c2ab8fdf2b9104397b4a464d83eab71b"
    )
    chosen = Genesis(
        network="golden",
        time_ms=1,
        ledger=LedgerParams(day_seconds=60, staking=StakingParams(max_validators=7)),
        accounts=(GenesisAccount(address=b"\1" * 20, balance_wei="5"),),
    )
    assert genesis_hash(chosen).hex() == "8fcd36c34617ca639d7da9a5153a4042dbfa6fe3119b8f0f57b79fe9472963d4"


def test_writing_a_default_down_changes_nothing() -> None:
    """Version 1 and ten blocks are what a genesis without them means."""
    plain = Genesis(network="n", time_ms=0)
    written = Genesis(network="n", time_ms=0, ledger=LedgerParams(rules_version=1, upgrade_notice_blocks=10))
    assert written == plain
    assert genesis_hash(written) == genesis_hash(plain)
    assert b"rules_version" not in msgspec.json.encode(written)


def test_another_version_is_another_network(tmp_path: Path) -> None:
    """It is in the file, comes back from it, and is part of the hash."""
    newer = Genesis(network="n", time_ms=0, ledger=LedgerParams(rules_version=2, upgrade_notice_blocks=3))
    assert genesis_hash(newer) != genesis_hash(Genesis(network="n", time_ms=0))
    (tmp_path / "genesis.json").write_bytes(msgspec.json.encode(newer))
    assert load_genesis(tmp_path / "genesis.json") == newer


@pytest.mark.parametrize("version", ["0", "-1", '"2"', "1.5"])
def test_a_version_that_is_none_is_refused(tmp_path: Path, version: str) -> None:
    """Naming the file and the field."""
    (tmp_path / "genesis.json").write_text(
        f'{{"network": "n", "time_ms": 0, "ledger": {{"rules_version": {version}}}}}'
    )
    with pytest.raises(GenesisError, match=r"genesis\.json .*rules_version"):
        load_genesis(tmp_path / "genesis.json")
