"""Uploads, downloads and streams at once; `--upload-users 2 --download-users 4 --stream-users 1` says how many of each."""

from loadtests.users import DownloadUser, StreamUser, UploadUser
from loadtests.wiring import wire


class Uploader(UploadUser):
    """Stores objects."""


class Downloader(DownloadUser):
    """Reads them whole."""


class Streamer(StreamUser):
    """Plays them."""


wire(Uploader, Downloader, Streamer)
