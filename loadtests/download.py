"""Reads stored objects whole and compares every byte with its seed."""

from loadtests.users import DownloadUser
from loadtests.wiring import wire


class Downloader(DownloadUser):
    """The one user class of this file."""


wire(Downloader)
