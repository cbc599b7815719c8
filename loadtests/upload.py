"""Stores one seeded object after another and checks name and copies of each."""

from loadtests.users import UploadUser
from loadtests.wiring import wire


class Uploader(UploadUser):
    """The one user class of this file."""


wire(Uploader)
