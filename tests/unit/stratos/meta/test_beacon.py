"""The beacon: commit in e-2, reveal in e-1, lose the meta share otherwise."""

from stratos.crypto.keys import NodeKey
from stratos.meta.beacon import commitment_of, withheld
from stratos.meta.rehearsal import Rehearsal, seed_bytes
from stratos.meta.rooms import BEACON, u64
from stratos.wire.metalog import BeaconCommit, BeaconReveal


def secret(key: NodeKey, epoch: int) -> bytes:
    return seed_bytes("secret", key.address, epoch)


def commit(net: Rehearsal, key: NodeKey, epoch: int) -> BeaconCommit:
    return BeaconCommit(epoch, commitment_of(secret(key, epoch), epoch, key.address))


def test_secrets_revealed_in_time_make_the_beacon(net: Rehearsal) -> None:
    """Beacons differ from epoch to epoch, and who revealed keeps the share while who did not loses it."""
    net.run(*(net.entry(commit(net, key, 3), key) for key in net.authorities))
    net.to_epoch(2)
    honest = net.authorities[:3]
    net.run(*(net.entry(BeaconReveal(3, secret(key, 3)), key) for key in honest))
    net.to_epoch(3)
    assert withheld(net.state, 3) == (net.authorities[3].address,)
    beacons = {BEACON.get(net.state, u64(epoch)) for epoch in (1, 2, 3)}
    assert len(beacons) == 3 and None not in beacons


def test_only_the_right_secret_at_the_right_time(net: Rehearsal) -> None:
    """Commitments for another epoch, twice, reveals too early, without commitment or with another secret are refused."""
    key, other = net.authorities[:2]
    assert net.refused(net.entry(commit(net, key, 2), key)) == "epoch"
    assert net.refused(net.entry(commit(net, net.holders[0], 3), net.holders[0])) == "authority"
    net.run(net.entry(commit(net, key, 3), key))
    assert net.refused(net.entry(commit(net, key, 3), key)) == "duplicate"
    assert net.refused(net.entry(BeaconReveal(3, secret(key, 3)), key)) == "epoch"
    net.to_epoch(2)
    assert net.refused(net.entry(BeaconReveal(3, secret(key, 3)), other)) == "invalid"
    assert net.refused(net.entry(BeaconReveal(3, secret(other, 3)), key)) == "invalid"
    net.run(net.entry(BeaconReveal(3, secret(key, 3)), key))
    assert net.refused(net.entry(BeaconReveal(3, secret(key, 3)), key)) == "duplicate"


def test_epochs_without_a_window_excuse_everybody(net: Rehearsal) -> None:
    """The first two epochs, and epochs the log jumped into, withhold nothing."""
    assert withheld(net.state, 1) == withheld(net.state, 2) == ()
    net.heartbeat(seconds=45)
    assert net.epoch == 5
    assert withheld(net.state, 5) == ()
