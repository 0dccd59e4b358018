"""Runs a Python program that must not outlive whoever started it: `guard.py FOLDER PROGRAM ARGUMENTS...`.

The starter holds the other end of our standard input and writes nothing. When it ends, however it ends, the system closes that end:
then FOLDER, which holds the program's files, is removed, and the program is killed with all that it has started. By its path alone, and with
the standard library alone: it runs under the Python of any ComfyUI.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading


def watch(folder: str) -> None:
    """Waits for the end of the input, then ends everything."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    if os.name == "posix" and os.getpgrp() == os.getpid():  # the starter gave us a group of our own
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Watches in the background while the program runs as if it had been started itself."""
    folder, program = sys.argv[1:3]
    threading.Thread(target=watch, args=(folder,), daemon=True).start()
    del sys.argv[:2]
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
