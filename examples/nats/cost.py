#!/usr/bin/env python3
"""What a vehicles' account costs the server: CPU seconds per million stored messages, in one account and
with `fleet.>` exported as a service. Usage: cost.py NATS_SERVER [MESSAGES]"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time

CAR = '{ user: car, password: x }'
FORMS = {
    "one account": 'accounts { FLEET { jetstream: enabled, users: [ %s ] } }' % CAR,
    "service": '''accounts {
        FLEET { jetstream: enabled, users: [ { user: ops, password: x } ], exports: [ { service: "fleet.>" } ] }
        VEHICLES { users: [ %s ], imports: [ { service: { account: FLEET, subject: "fleet.>" } } ] } }''' % CAR,
}
STREAM = b'{"name":"T","subjects":["fleet.0.*.speed"],"storage":"file"}'


def connect(port, user):
    link = socket.create_connection(("127.0.0.1", port), 5)
    lines = link.makefile("rb")
    lines.readline()
    link.sendall(b'CONNECT {"verbose":false,"headers":true,"user":"%s","pass":"x"}\r\nSUB _INBOX.> 1\r\nPING\r\n' % user)
    while lines.readline().strip() != b"PONG":
        pass
    return link, lines


def answer(lines):
    while not lines.readline().startswith(b"MSG"):
        pass
    return lines.readline()


def cpu(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def running(server, accounts=""):
    """A server with JetStream, once it answers: its process id and its port."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with open(f"{folder}/conf", "w") as conf:
            conf.write(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/store", strict: true }}\n')
            conf.write(accounts)
        process = subprocess.Popen([server, "-c", f"{folder}/conf", "-l", f"{folder}/log"])
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


def make_stream(link, lines, config=STREAM):
    link.sendall(b"PUB $JS.API.STREAM.CREATE.T _INBOX.a %d\r\n%s\r\n" % (len(config), config))
    assert b'"error"' not in answer(lines)


def measure(server, form, every, messages):
    with running(server, FORMS[form]) as (pid, port):
        make_stream(*connect(port, b"car" if form == "one account" else b"ops"))
        car, lines = connect(port, b"car")
        before, sent, acks = cpu(pid), 0, 0
        while sent < messages:
            batch = []
            for sent in range(sent + 1, sent + 257):
                reply = b" _INBOX.a" if sent % every == 0 else b""
                batch.append(b"PUB fleet.0.CAR.speed%s 14\r\n12345678901234\r\n" % reply)
            car.sendall(b"".join(batch))
            while acks < sent // every - 1024 // every:
                answer(lines)
                acks += 1
        while acks < sent // every:
            answer(lines)
            acks += 1
        return (cpu(pid) - before) / sent * 1e6


def main():
    server, messages = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300_000
    for every in (1, 16):
        plain, service = (min(measure(server, form, every, messages) for _ in range(3)) for form in FORMS)
        print(f"an ack every {every}: one account {plain:.1f} s/M, service {service:.1f} s/M, {service / plain:.1f} times")


if __name__ == "__main__":
    main()
