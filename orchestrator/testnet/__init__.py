"""The folder of one testnet: its state files, journal and lock, and the steps that raise and lower it."""
