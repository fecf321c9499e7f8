#!/usr/bin/env python3
"""How long a server takes to start and to reload with so many vehicles' users, and its memory then. In the
project's folder: examples/nats/sizes.py NATS_SERVER [VEHICLES]"""

import base64
import binascii
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time


def nkey():
    """A public one whose seed nobody has."""
    raw = bytes([20 << 3]) + os.urandom(32)
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def users(*args):
    command = ["cargo", "run", "-q", "-p", "fleet-examples", "--example", "nats_users", "--", *args]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def until(log, line, times, process):
    begun = time.monotonic()
    while open(log).read().count(line) < times:
        if process.poll() is not None:
            sys.exit(open(log).read())
        time.sleep(0.02)
    return time.monotonic() - begun


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


def main():
    server, vehicles = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40_000
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/vehicles.csv", "w") as csv:
            csv.writelines(f"0,CAR{n:06},{nkey()}\n" for n in range(vehicles))
        users("keys", folder, "0")
        os.mkdir(f"{folder}/vehicles")
        with open(f"{folder}/vehicles/vehicles.conf", "w") as conf:
            conf.write(users("vehicles", f"{folder}/vehicles.csv"))
        shutil.copy("examples/nats/accounts.conf", folder)
        with open(f"{folder}/nats.conf", "w") as conf:
            conf.write(f'server_name: sizes\nlisten: "127.0.0.1:-1"\njetstream {{ store_dir: "{folder}/store" }}\n')
            conf.write("include ./accounts.conf\n")
        log = f"{folder}/log"
        open(log, "w").close()
        process = subprocess.Popen([server, "-c", f"{folder}/nats.conf", "-l", log])
        try:
            started = until(log, "Server is ready", 1, process)
            process.send_signal(signal.SIGHUP)
            reloaded = until(log, "Reloaded server configuration", 1, process)
            size = os.path.getsize(f"{folder}/vehicles/vehicles.conf") / 1e6
            memory = resident(process.pid)
            print(f"{vehicles} vehicles: {size:.1f} MB, start {started:.1f} s, reload {reloaded:.1f} s, {memory} MiB")
        finally:
            process.terminate()
            process.wait()


main()
