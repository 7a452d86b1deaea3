"""python -m snowflake_emulator [--port 0] [--tls-port 0] [--state-file F] [--data F] [--setup F]

Prints one JSON line with the ports, the authority's certificate and the control token, and stays until standard input ends
or SIGTERM comes. --state-file gets the same line, --data keeps everything across a restart.
"""

import argparse
import json
import logging
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading

from . import certificates
from .emulator import Emulator
from .server import Server


def main():
    parser = argparse.ArgumentParser(prog="snowflake_emulator", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="http on this port, 0: any")
    parser.add_argument("--tls-port", type=int, help="https on this port, 0: any")
    parser.add_argument("--state-file", type=pathlib.Path, help="where the ready line is written, too")
    parser.add_argument("--data", type=pathlib.Path, help="a DuckDB file that keeps everything")
    parser.add_argument("--setup", type=pathlib.Path, help="JSON: settings, users, databases, ... as the control endpoint's")
    parser.add_argument("--certificates", type=pathlib.Path, help="folder for the certificates")
    parser.add_argument("--control-token", default=os.environ.get("ETL_EMULATOR_TOKEN"))
    parser.add_argument("--openapi", type=pathlib.Path, help="Snowflake's document of the SQL API, checked as well")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="emulator: %(message)s")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threading.Thread(target=lambda: (wait_for_end(sys.stdin), stop.set()), daemon=True).start()

    temporary = None
    if options.tls_port is not None and not options.certificates:
        temporary = tempfile.mkdtemp(prefix="snowflake-emulator-")
    emulator = Emulator(str(options.data) if options.data else None, options.control_token, options.openapi)
    try:
        if options.setup:
            emulator.control.set_up(json.loads(options.setup.read_text()))
        ready = {"pid": os.getpid(), "account": emulator.settings.account, "control_token": emulator.control_token}
        if options.port is not None or options.tls_port is None:
            ready["port"] = Server(emulator, ("127.0.0.1", options.port or 0)).start()
            ready["url"] = f"http://127.0.0.1:{ready['port']}"
        if options.tls_port is not None:
            authority, context = certificates.make(options.certificates or temporary)
            ready["tls_port"] = Server(emulator, ("127.0.0.1", options.tls_port), context).start()
            ready["tls_url"] = f"https://127.0.0.1:{ready['tls_port']}"
            ready["ca_file"] = str(authority)
        line = json.dumps(ready)
        if options.state_file:
            half = options.state_file.with_name(options.state_file.name + ".new")
            half.write_text(line + "\n")
            half.replace(options.state_file)
        print(line, flush=True)
        stop.wait()
    finally:
        emulator.close()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
    # Threads of open connections may still be reading; nothing of them is worth waiting for.
    os._exit(0)


def wait_for_end(stream):
    while stream.read(4096):
        pass


if __name__ == "__main__":
    main()
