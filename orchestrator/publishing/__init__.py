"""The public files of a testnet: what anybody may know of it, as static files that a coordinator signs."""
