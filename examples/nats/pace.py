#!/usr/bin/env python3
"""What a message costs the server by how many come at a time: CPU of a server that is never busy, at a pace of
3,333 a second, as of 10,000 vehicles. Usage: pace.py NATS_SERVER [SECONDS]"""

import socket
import sys
import threading
import time

from cost import connect, cpu, make_stream, running

VEHICLES = 10_000
# Name, stream, an ack every so many (0: none), a subscription for each vehicle, at a time, a second.
CASES = [
    ("to nobody, kept nowhere", False, 0, False, 1, 3_333),
    ("to a subscription for each vehicle", False, 0, True, 1, 3_333),
    ("kept in a stream, no acks", True, 0, False, 1, 3_333),
    ("both, an ack every 16", True, 16, True, 1, 3_333),
    ("both, an ack for each", True, 1, True, 1, 3_333),
    ("the same, 64 at a time", True, 1, True, 64, 3_333),
    ("the same, 64 at a time, ten times as many", True, 1, True, 64, 33_333),
]


def drain(link):
    try:
        while link.recv(1 << 16):
            pass
    except OSError:
        pass  # The server has ended.


def publish(link, every, together, rate, seconds):
    begun, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        if passed * rate - sent < together:
            time.sleep(0.0001)
            continue
        batch = []
        for n in range(sent, sent + together):
            reply = b" _INBOX.a" if every and n % every == 0 else b""
            batch.append(b"PUB fleet.0.%d.speed%s 14\r\n12345678901234\r\n" % (n * 7919 % VEHICLES, reply))
        link.sendall(b"".join(batch))
        sent += together
    return sent


def measure(server, stream, every, subscribed, together, rate, seconds):
    with running(server) as (pid, port):
        (vehicles, said), (worker, _) = connect(port, b"car"), connect(port, b"worker")
        vehicles.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stream:
            make_stream(vehicles, said)
        if subscribed:
            worker.sendall(b"".join(b"SUB fleet.0.%d.* %d\r\n" % (n, n + 2) for n in range(VEHICLES)))
        for link in (vehicles, worker):
            threading.Thread(target=drain, args=(link,), daemon=True).start()
        time.sleep(1)
        before = cpu(pid)
        sent = publish(vehicles, every, together, rate, seconds)
        return (cpu(pid) - before) / sent * 1e6


def main():
    server, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10
    for name, *case in CASES:
        print(f"{name:45} {measure(server, *case, seconds):6.1f} µs a message", flush=True)


if __name__ == "__main__":
    main()
