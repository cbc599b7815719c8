"""Runtimes place files and control processes; they decide nothing about the testnet."""
