"""What OpenSSH options of an inventory mean for a connection that is not made by OpenSSH.

Ansible hands `ansible_ssh_common_args` and its relatives to the ssh program; the day-two commands connect by themselves and must
reach the same hosts by the same way, so this reads the options that decide the way: jump host, proxy command, known hosts, strictness,
keys, port, user and configuration file. Options about comfort (ControlPersist, compression, ...) change nothing here and are skipped. Pure.
"""

from __future__ import annotations

import shlex

from msgspec import Struct

from orchestrator.errors import BadInput

_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
"""Single-letter options of ssh(1) that take a value."""


class SshOptions(Struct, frozen=True, kw_only=True):
    """`strict` is yes, accept-new or no. Empty text and empty tuples mean: not said."""

    jumps: tuple[str, ...] = ()
    proxy_command: str = ""
    known_hosts: tuple[str, ...] = ()
    strict: str = "yes"
    identities: tuple[str, ...] = ()
    identities_only: bool = False
    user: str = ""
    port: int = 0
    config_file: str = ""
    connect_seconds: float = 0.0


class Jump(Struct, frozen=True, kw_only=True):
    """One host of a ProxyJump chain."""

    host: str
    user: str = ""
    port: int = 0


def parse_ssh_options(arguments: str, *, host: str) -> SshOptions:
    """The options in `arguments`, a piece of an ssh command line; raises BadInput naming `host`."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise BadInput(
            f"the ssh arguments of {host} cannot be read ({error}): {arguments[:80]!r}; close the quote"
        ) from error
    said: dict[str, list[str]] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("-") or len(word) < 2:
            continue
        letter, value = word[1], word[2:]
        if letter not in _WITH_VALUE:
            continue
        if not value:
            if not words:
                raise BadInput(f"the ssh arguments of {host} end in {word} without its value; complete or remove it")
            value = words.pop(0)
        key, text = _named(letter, value)
        said.setdefault(key, []).append(text)
    return _options(said, host)


def _named(letter: str, value: str) -> tuple[str, str]:
    if letter == "o":
        key, _, text = value.strip().replace("=", " ", 1).partition(" ")
        return key.lower(), text.strip().strip('"')
    return {"J": "proxyjump", "i": "identityfile", "l": "user", "p": "port", "F": "-f"}.get(letter, f"-{letter}"), value


def _options(said: dict[str, list[str]], host: str) -> SshOptions:
    def first(key: str) -> str:  # as in ssh: the first value said counts
        return said.get(key, [""])[0]

    jump, command = first("proxyjump"), first("proxycommand")
    strict = {"no": "no", "off": "no", "accept-new": "accept-new"}.get(first("stricthostkeychecking").lower(), "yes")
    return SshOptions(
        jumps=() if jump.lower() in ("", "none") else tuple(jump.split(",")),
        proxy_command="" if command.lower() == "none" else command,
        known_hosts=tuple(first("userknownhostsfile").split()),
        strict=strict,
        identities=tuple(said.get("identityfile", ())),
        identities_only=first("identitiesonly").lower() == "yes",
        user=first("user"),
        port=_number(first("port"), "port", host),
        config_file=first("-f"),
        connect_seconds=float(_number(first("connecttimeout"), "ConnectTimeout", host)),
    )


def _number(text: str, what: str, host: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and int(text) < 65_536):
        raise BadInput(f"the ssh arguments of {host} say {what} {text[:20]!r}; it must be a number below 65536")
    return int(text)


def parse_jump(text: str, *, host: str) -> Jump:
    """`[user@]host[:port]`, also `ssh://...` and bracketed IPv6; raises BadInput naming `host`."""
    rest = text.removeprefix("ssh://")
    user, _, place = rest.rpartition("@")
    if place.startswith("["):
        name, _, after = place[1:].partition("]")
        port = after.removeprefix(":")
    else:
        name, _, port = place.partition(":") if place.count(":") == 1 else (place, "", "")
    if not name:
        raise BadInput(f"the jump host {text[:60]!r} of {host} names no host; write user@host:port")
    return Jump(host=name, user=user, port=_number(port, "jump port", host))
