"""The processes that a process has started, and what they hold: read from Linux's /proc."""

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_LISTENING = "0A"


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started and that they have started, as far as they are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        todo += children.get(todo[0], [])
        found.append(todo.pop(0))
    return found[1:]


def listening(pid: int) -> dict[str, IPv4Address | IPv6Address]:
    """The sockets at which a process or one of its descendants listens for connections, and their
    addresses."""
    held = set()
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):
            for link in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    held.add(str(link.readlink()))
    found: dict[str, IPv4Address | IPv6Address] = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            socket = f"socket:[{fields[9]}]"
            if fields[3] == _LISTENING and socket in held:
                found[socket] = _address(fields[1].partition(":")[0])
    return found


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as /proc/net writes it: hexadecimal words of 32 bits, each in the machine's order."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    if len(words) == 1:
        return IPv4Address(words[0])
    address = IPv6Address(b"".join(words))
    return address.ipv4_mapped or address
