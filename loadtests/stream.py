"""Reads stored objects in order as a player does, measuring the first byte, hashing as it goes."""

from loadtests.users import StreamUser
from loadtests.wiring import wire


class Streamer(StreamUser):
    """The one user class of this file."""


wire(Streamer)
