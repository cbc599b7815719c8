"""One process of `runner.run_seeds`: `python -m stratos.sim.worker WORLD FIRST END STEP [MUTATION]`, an outcome per line."""

import sys

import msgspec

from stratos.sim.runner import run_seed


def main(arguments: list[str]) -> int:
    """Run every STEP-th seed from FIRST up to END."""
    world, first, end, step, *rest = arguments
    mutation = rest[0] if rest else None
    for seed in range(int(first), int(end), int(step)):
        sys.stdout.buffer.write(msgspec.json.encode(run_seed(world, seed, mutation)) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
