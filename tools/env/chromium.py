"""Finds the system's Chromium for the browser tests; on Debian as root it installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import environment as env
from .steps import StepError, run_step, say

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FONTS = ("fontconfig", "fonts-liberation", "fonts-wqy-microhei")
"""Debian's packages: a list of fonts, Latin and Chinese letters. Without the last, Chinese pages are rows of empty boxes."""
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


def find() -> Path | None:
    """The executable, or None."""
    found = [path for path in map(shutil.which, NAMES) if path]
    found += [place for place in PLACES if Path(place).is_file()]
    return Path(found[0]) if found else None


def find_or_install() -> Path | None:
    """The executable, installed with fonts by apt first where that is possible without asking; None elsewhere."""
    found = find()
    if not can_install() or (found and _has_chinese_letters()):
        return found
    try:
        _install()
    except StepError as error:
        if found is None:
            raise
        say(f"there are no Chinese letters for screenshots: {error}")
        return found
    found = find()
    if found is None:
        raise StepError(
            f"apt-get installed chromium, but there is no such program; see {env.home() / 'logs' / 'chromium.log'}."
        )
    return found


def _install() -> None:
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    log = env.home() / "logs" / "chromium.log"
    folder = Path("/var/cache/apt")
    run_step("updating the package lists", ["apt-get", "update"], folder=folder, log=log, environ=quiet)
    install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium", *FONTS]
    run_step("installing Chromium and fonts", install, folder=folder, log=log, environ=quiet)


def _has_chinese_letters() -> bool:
    listed = (
        subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True) if shutil.which("fc-list") else None
    )
    return bool(listed and listed.stdout.strip())


def can_install() -> bool:
    """Whether packages can be installed here without asking."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and Path("/etc/debian_version").is_file() and shutil.which("apt-get") is not None
