#!/usr/bin/env python3
"""What several samples in a frame save: bytes that go over the link in both directions, bytes in the stream, and CPU
time of the server, for each sample. The commands are those of the C client, with an id and an acknowledgement for each.
TCP, IP and TLS come on top of them. Usage: frames.py NATS_SERVER [MESSAGES]"""

import json
import sys

from cost import answer, connect, cpu, make_stream, running

VEHICLE = "WDB9634031L123456"
# Bytes of a sample in a frame, without its time.
SIGNALS = {"speed": 2, "position": 8}
COUNTS = (1, 2, 4, 8, 16, 32, 64)
STREAM = {"name": "T", "subjects": [f"fleet.0.*.{signal}" for signal in SIGNALS], "storage": "file"}


def command(signal, count, n):
    """The n-th HPUB of a sensor, with a frame of so many samples."""
    frame = bytes([0xF1, count, n & 255, n >> 8 & 255]) + n.to_bytes(6, "little")
    frame += bytes(count * (2 + SIGNALS[signal]))
    header = b"NATS/1.0\r\nNats-Msg-Id: %024x\r\n\r\n" % n
    inbox = f"_INBOX.{VEHICLE}.{signal}.{n & 0xFFFFFFFF:08x}"
    head = f"HPUB fleet.0.{VEHICLE}.{signal} {inbox} {len(header)} {len(header) + len(frame)}\r\n"
    return head.encode() + header + frame + b"\r\n"


def acknowledged(lines):
    """Reads an acknowledgement; how many bytes it had."""
    head = lines.readline()
    while head == b"PING\r\n":
        head = lines.readline()
    body = lines.readline()
    assert head.startswith(b"MSG") and b'"error"' not in body, (head, body)
    return len(head) + len(body)


def stored(link, lines):
    """Bytes of all messages in the stream, on disk."""
    link.sendall(b"PUB $JS.API.STREAM.INFO.T _INBOX.a 0\r\n\r\n")
    return json.loads(answer(lines))["state"]["bytes"]


def measure(server, signal, count, messages):
    with running(server) as (pid, port):
        link, lines = connect(port, b"car")
        make_stream(link, lines, json.dumps(STREAM).encode())
        before, out, back, acks = cpu(pid), 0, 0, 0
        for sent in range(0, messages, 64):
            lot = b"".join(command(signal, count, n) for n in range(sent, sent + 64))
            out += len(lot)
            link.sendall(lot)
            while acks < sent - 1024:
                back += acknowledged(lines)
                acks += 1
        while acks < sent + 64:
            back += acknowledged(lines)
            acks += 1
        samples = acks * count
        took = (cpu(pid) - before) / samples * 1e6
        return out / samples, back / samples, stored(link, lines) / samples, took


def main():
    server, messages = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    print("| signal | samples a frame | sent | acknowledgement | in the stream | server, µs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for signal in SIGNALS:
        for count in COUNTS:
            out, back, disk, took = measure(server, signal, count, messages)
            print(f"| {signal} | {count} | {out:.1f} | {back:.1f} | {disk:.1f} | {took:.2f} |", flush=True)


if __name__ == "__main__":
    main()
