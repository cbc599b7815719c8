"""The authenticated map is a dict with a root: same content same root, and only true statements can be proved."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stratos.state import EMPTY_ROOT, AuthMap, ProofStep, StateProof, verify_state_proof

keys = st.binary(min_size=1, max_size=4)
values = st.one_of(st.binary(max_size=8), st.binary(min_size=30, max_size=40))
changes = st.dictionaries(keys, st.one_of(st.none(), values), max_size=40)


def _apply(model: dict[bytes, bytes], change: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    merged = {**model, **change}
    return {key: value for key, value in merged.items() if value is not None}


@given(st.lists(changes, max_size=6))
def test_the_root_is_that_of_the_content_whatever_way_led_there(history: list[dict[bytes, bytes | None]]) -> None:
    """Batches, deletions and overwrites give the root that the final content gives in one step."""
    model: dict[bytes, bytes] = {}
    authmap = AuthMap()
    for change in history:
        before, root = authmap, authmap.root
        authmap = authmap.update(change)
        model = _apply(model, change)
        assert before.root == root
    assert authmap.root == AuthMap().update(model).root
    assert (authmap.root == EMPTY_ROOT) == (not model)


@given(st.dictionaries(keys, values, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_writes_does_not_matter(content: dict[bytes, bytes], random: Random) -> None:
    """One key at a time, in any order, ends at the same root."""
    order = sorted(content)
    random.shuffle(order)
    authmap = AuthMap()
    for key in order:
        authmap = authmap.update({key: content[key]})
    assert authmap.root == AuthMap().update(content).root


@given(st.dictionaries(keys, values, max_size=40), keys, values)
def test_a_proof_shows_the_value_that_is_there_and_no_other(
    content: dict[bytes, bytes], key: bytes, other: bytes
) -> None:
    """Inclusion or exclusion verifies as it is; the opposite and any other value do not."""
    authmap = AuthMap().update(content)
    proof = authmap.prove(key)
    held = content.get(key)
    assert verify_state_proof(authmap.root, key, held, proof)
    assert verify_state_proof(authmap.root, key, other, proof) == (other == held)
    if held is not None:
        assert not verify_state_proof(authmap.root, key, None, proof)


@given(st.dictionaries(keys, values, min_size=1, max_size=40), keys, st.data())
def test_a_tampered_proof_proves_nothing(content: dict[bytes, bytes], key: bytes, data: st.DataObject) -> None:
    """Any change of a step, of the foreign leaf or of the depth makes the proof false."""
    authmap = AuthMap().update(content)
    proof = authmap.prove(key)
    held = content.get(key)
    tampered = [structs.replace(proof, steps=(*proof.steps, ProofStep(1, ())))]
    if proof.steps:
        tampered.append(structs.replace(proof, steps=proof.steps[:-1]))
        index = data.draw(st.integers(0, len(proof.steps) - 1))
        step = proof.steps[index]
        changed = [ProofStep(step.bitmap ^ (1 << data.draw(st.integers(0, 15))), step.siblings)]
        if step.siblings:
            flipped = bytes([step.siblings[0][0] ^ 1]) + step.siblings[0][1:]
            changed += [
                ProofStep(step.bitmap, (flipped, *step.siblings[1:])),
                ProofStep(step.bitmap, step.siblings[1:]),
            ]
        tampered += [
            structs.replace(proof, steps=(*proof.steps[:index], new, *proof.steps[index + 1 :])) for new in changed
        ]
    if proof.other_path:
        tampered.append(structs.replace(proof, other_path=bytes(32)))
        tampered.append(structs.replace(proof, other_commitment=b"\1" + bytes(32)))
        tampered.append(structs.replace(proof, other_path=b"", other_commitment=b""))
    else:
        tampered.append(structs.replace(proof, other_path=bytes(32), other_commitment=b"\0"))
    for wrong in tampered:
        assert not verify_state_proof(authmap.root, key, held, wrong)


@given(st.dictionaries(keys, values, max_size=40), keys, st.binary(min_size=32, max_size=32))
def test_a_proof_is_for_one_root(content: dict[bytes, bytes], key: bytes, root: bytes) -> None:
    """Under another root nothing verifies."""
    authmap = AuthMap().update(content)
    if root != authmap.root:
        assert not verify_state_proof(root, key, content.get(key), authmap.prove(key))


def test_the_empty_proof_shows_absence_in_the_empty_map_only() -> None:
    """Nothing proves nothing, unless nothing is there."""
    assert verify_state_proof(EMPTY_ROOT, b"key", None, StateProof(()))
    assert not verify_state_proof(EMPTY_ROOT, b"key", b"", StateProof(()))
    assert not verify_state_proof(AuthMap().update({b"a": b"b"}).root, b"key", None, StateProof(()))
