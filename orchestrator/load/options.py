"""What one distributed run does, and the Locust settings of each load host.

Hosts run on their own (headless) and write result files; they need no connection to each other or to the controller while
they run, so a controller behind NAT or gone for a minute spoils nothing, and every sample is kept. Rates and users are those of each host;
data differs from host to host because the seed does.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import BadInput

KINDS = ("upload", "download", "stream")
STOP_SECONDS = 15
FOLDER = "/testnet"
"""Where a load host's container sees the testnet's public files, the wallet and its own results."""


class LoadOptions(Struct, frozen=True, kw_only=True):
    """One run. `rates` are operations per second and user, 0 for flat out; `users` and `rates` by kind."""

    seconds: int
    users: dict[str, int]
    rates: dict[str, float]
    size: str = "64KiB-1MiB"
    seed: str = "load"
    wallet: str = "user"
    preload: int = 4

    def check(self) -> None:
        """Raise BadInput for a run that would do nothing."""
        if not 1 <= self.seconds <= 30 * 86_400:
            raise BadInput(f"--seconds {self.seconds} is not between 1 and 30 days; say how long the load should last")
        if sum(self.users.get(kind, 0) for kind in KINDS) < 1 or any(count < 0 for count in self.users.values()):
            raise BadInput("there are no users; say --upload-users, --download-users or --stream-users")


def locust_config(options: LoadOptions, *, host: str, testnet: str, results: str) -> str:
    """The text of Locust's configuration file on one load host; paths as the host's Locust sees them."""
    users = sum(options.users.get(kind, 0) for kind in KINDS)
    settings: dict[str, str | int | float] = {
        "headless": "true",
        "only-summary": "true",
        "loglevel": "WARNING",
        "users": users,
        "spawn-rate": users,
        "run-time": f"{options.seconds}s",
        "stop-timeout": STOP_SECONDS,
        "testnet": testnet,
        "wallets": options.wallet,
        "results": results,
        "seed": f"{options.seed}-{host}",
        "size": options.size,
        "preload": options.preload,
    }
    for kind in KINDS:
        settings[f"{kind}-users"] = options.users.get(kind, 0)
        settings[f"{kind}-rate"] = options.rates.get(kind, 0.0)
    return "".join(f"{name} = {value}\n" for name, value in settings.items())
