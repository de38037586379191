"""A small name server for tests, on UDP and a free port.

    with Dns() as dns:
        dns.a("a.test", "127.0.0.1", "127.0.0.2", ttl=1)
        dns.srv("_http._tcp.a.test", (0, 10, 8080, "b.test"))     # priority, weight, port, target
        dns.cname("c.test", "a.test")

Names without records do not exist, until dns.mute: then nobody answers. dns.questions counts them by
(name, type).
"""

import collections
import ipaddress
import socket
import struct
import threading

A, CNAME, AAAA, SRV = 1, 5, 28, 33


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


def decode(packet, at):
    """The name at that place, and what is behind it."""
    labels = []
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels).lower(), at + 1


class Dns:
    def __init__(self):
        self.records = {}
        self.extra = []
        self.questions = collections.Counter()
        self.mute = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()

    @property
    def settings(self):
        """For a gateway that asks this server only."""
        return {"dns_resolver": f"127.0.0.1:{self.port}", "dns_hostsfile": "/dev/null"}

    # -- what it knows ---------------------------------------------------------------------------

    def a(self, name, *addresses, ttl=60):
        """Addresses of either family; none: the name is gone."""
        for kind, version in (A, 4), (AAAA, 6):
            data = [ipaddress.ip_address(x).packed for x in addresses
                    if ipaddress.ip_address(x).version == version]
            self.set(name, kind, data, ttl)

    def srv(self, name, *records, ttl=60):
        self.set(name, SRV, [struct.pack("!HHH", *r[:3]) + encode(r[3]) for r in records], ttl)

    def cname(self, name, target, ttl=60):
        self.set(name, CNAME, [encode(target)], ttl)

    def set(self, name, kind, data, ttl):
        self.records.pop((name, kind), None)
        if data:
            self.records[name, kind] = [(ttl, d) for d in data]

    # -- serving ---------------------------------------------------------------------------------

    def serve(self):
        while True:
            packet, peer = self.socket.recvfrom(4096)
            if not packet:
                return
            name, at = decode(packet, 12)
            kind = struct.unpack("!H", packet[at:at + 2])[0]
            self.questions[name, kind] += 1
            if not self.mute:
                self.socket.sendto(self.answer(packet, at + 4, name, kind), peer)

    def answer(self, packet, end, name, kind):
        found = []
        while (name, kind) not in self.records and (name, CNAME) in self.records:
            ttl, target = self.records[name, CNAME][0]
            found.append((name, CNAME, ttl, target))
            name = decode(target, 0)[0]
        found += [(name, kind, *r) for r in self.records.get((name, kind), [])]
        known = found or any(n == name for n, _ in list(self.records))
        head = packet[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, len(found), 0, 0)
        return head + packet[12:end] + b"".join(
            encode(n) + struct.pack("!HHIH", k, 1, ttl, len(data)) + data
            for n, k, ttl, data in found)
