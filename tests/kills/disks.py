"""Let the disk of a training really be full, read-only or limited; each run must say so and go on to its end.

    python tests/kills/disks.py [N]        as root, or behind `unshare --user --map-root-user --mount`

N runs [300], each on a file system in memory of its own.  Before one of its file operations, of every stage in turn,
there is no space left on it but a few pages, or no inode but a few; or files may not become larger than so many bytes;
or the directories become read-only, for a user who is not root; or the run is killed, and its file system becomes
read-only.  A run with figures meets the same while it draws them.

It must end in one line that names the cause, or well; its checkpoint must load while the disk is still as it is, and a
resume there must fail in one line too.  Once the disk is as before, it is resumed to the reference's bits.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trial import ENDED, Trial, arguments, code_of, continuation, count_arguments, in_process, memory_disk

from nanograd_gpt.cli import train
from nanograd_gpt.training.run_directory import checkpoints

SIZE, INODES = 12 << 20, 600  # of a file system: bytes, and files
PAGE = 4096  # bytes; the least that a file takes there
LEFT = [0, 0, 1, 2, 5, 20]  # pages or inodes that stay free
LARGEST_FILE = 100_000  # bytes; a checkpoint has larger ones
NOBODY = 65534  # a user's id
EVERY_FIGURE = 5  # of the runs of a kind, one draws figures
FAILED = (1, 2)
FULL = r"the disk is full|bytes, its disk has [\d,]+ left; free space there"
LARGE, DENIED, READ_ONLY = "File too large", "Permission denied", "Read-only file system"

Change = Callable[[Path], None]  # of the disk with a run


def mounted(place: Path) -> None:
    """Mount an empty file system.  Raises OSError where that is not allowed."""
    place.mkdir(exist_ok=True)
    options = f"size={SIZE},nr_inodes={INODES},mode=777"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(done.stderr.strip() or "mount failed")


def remounted(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True, capture_output=True)


def why_no_mounts() -> str | None:
    """The reason why this process cannot mount a file system; None if it can."""
    if sys.platform != "linux":
        return "tmpfs is Linux's"
    with tempfile.TemporaryDirectory() as directory:
        try:
            mounted(Path(directory) / "disk")
        except OSError as error:
            return f"a file system cannot be mounted here: {error}"
        subprocess.run(["umount", directory + "/disk"], check=True)
    return None


def no_space(disk: Path, left: int) -> None:
    state = os.statvfs(disk)
    with (disk / "ballast").open("wb") as file:
        taken = max(1, state.f_bavail - left) * state.f_frsize
        os.posix_fallocate(file.fileno(), 0, taken)


def no_inodes(disk: Path, left: int) -> None:
    (disk / "ballast").mkdir()
    for i in range(max(0, os.statvfs(disk).f_favail - left)):
        (disk / "ballast" / str(i)).touch()


def read_only_directories(run: Path) -> None:
    for directory in [run, *(path for path in run.rglob("*") if path.is_dir())]:
        directory.chmod(0o555)


class Disks(Trial):
    """Runs whose disk does not take what they write."""

    refused = 0  # ended by it, with an error

    @contextmanager
    def disk(self) -> Iterator[Path]:
        """A new file system's root."""
        place = self.work / "disk"
        mounted(place)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def attempt(self, argv: list[str], run: Path, before: Callable[[int], None], what: str, cause: str) -> int:
        """Run a command, which must end well or in one line that names the cause; returns its exit code."""
        errors = self.work / "errors"
        code = code_of(in_process(argv, run, before, errors))
        said = errors.read_text(encoding="utf-8")
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        named = len(lines) == 1 and re.search(cause, lines[0]) is not None
        if "Traceback" in said or code not in (ENDED, *FAILED) or (code and not named):
            self.wrong.append(f"{what}: exit {code}, saying {said[-300:]!r}")
        return code

    def trial(self, kind: str, at: int, figures: bool) -> None:
        """One run whose disk changes before a file operation, and back."""
        with self.disk() as disk, drawing(figures):
            run = disk / "run"
            left = self.random.choice(LEFT)
            what = f"{kind}, {left} left, before operation {at}{' with figures' if figures else ''}"
            change, cause = {
                "full": (lambda: no_space(disk, left), FULL),
                "no inodes": (lambda: no_inodes(disk, left), FULL),
                "limited": (self.limited, LARGE),
                "denied": (lambda: read_only_directories(run), DENIED),
                "read-only": (lambda: os.kill(os.getpid(), signal.SIGKILL), READ_ONLY),
            }[kind]

            def before(operation: int) -> None:
                if kind == "denied" and operation == 0:
                    os.setuid(NOBODY)
                if operation == at:
                    change()

            if kind == "read-only":
                code_of(in_process(arguments(run, self.data), run, before))
                remounted(disk, "ro")
            else:
                self.refused += self.attempt(arguments(run, self.data), run, before, what, cause) != ENDED
            self.still_there(kind, disk, run, what, cause)
            self.restored(kind, disk, run)
            code = self.attempt(
                continuation(run, self.data), run, lambda operation: None, f"{what}, resumed", "no cause"
            )
            if code == ENDED and (differing := [name for name in self.differences(run) if not drawn(name)]):
                self.wrong.append(f"{what}: differs in {', '.join(differing)}")

    def limited(self) -> None:
        most = self.random.randrange(LARGEST_FILE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    def still_there(self, kind: str, disk: Path, run: Path, what: str, cause: str) -> None:
        """While the disk is still so, the checkpoint loads, and a resume says the same or ends well."""
        if kind in ("limited", "denied"):  # the limit has gone with the process; root is not denied
            return
        before = {path: path.read_bytes() for path in disk.rglob("checkpoints/*/*") if path.is_file()}
        if not checkpoints(run):
            return
        nothing = self.work / "nothing"  # no path of the run: the operations are not counted
        for command in (["info", str(run)], ["evaluate", str(run)]):
            if code_of(in_process(command, nothing, errors=self.work / "errors")) != ENDED:
                said = (self.work / "errors").read_text(encoding="utf-8")
                self.wrong.append(f"{what}: {command[0]} fails there: {said[-300:]!r}")
        code = self.attempt(["train", "--resume", str(run)], nothing, lambda operation: None, f"{what}, again", cause)
        if kind == "read-only" and {p: p.read_bytes() for p in before} != before:
            self.wrong.append(f"{what}: a resume on a read-only file system changed it, exit {code}")

    def restored(self, kind: str, disk: Path, run: Path) -> None:
        if kind == "read-only":
            remounted(disk, "rw")
        elif kind == "full":
            (disk / "ballast").unlink(missing_ok=True)
        elif kind == "no inodes" and (disk / "ballast").is_dir():
            for path in (disk / "ballast").iterdir():
                path.unlink()
        elif kind == "denied":
            for path in [run, *run.rglob("*")]:
                if path.is_dir():
                    path.chmod(0o755)


def drawn(name: str) -> bool:
    """Whether a file of a run is a figure or the report."""
    return name.startswith(("figures/", "report.html"))


@contextmanager
def drawing(figures: bool) -> Iterator[None]:
    """Let runs draw figures in this block, which Trial has switched off."""
    off = train.write_figures, train.check_figures
    if figures:
        train.write_figures, train.check_figures = FIGURES
    try:
        yield
    finally:
        train.write_figures, train.check_figures = off


FIGURES = train.write_figures, train.check_figures
KINDS = ["full", "no inodes", "limited", "read-only", "denied"]


def can_become_nobody() -> bool:
    """Whether there is another user in this namespace, to whom a read-only directory is one."""
    maps = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return any(int(first) <= NOBODY < int(first) + int(n) for first, n in zip(maps[::3], maps[2::3], strict=True))


def failed(n: int, seed: int, work: Path) -> Disks:
    """Let n runs meet a disk: every kind in turn, at operations spread over a run."""
    work.chmod(0o755)  # for the user who is not root
    trial = Disks(work, seed)
    kinds = KINDS if can_become_nobody() else KINDS[:-1]
    rounds = max(1, n // len(kinds))
    for i in range(n):
        turn, kind = divmod(i, len(kinds))
        figures = turn % EVERY_FIGURE == EVERY_FIGURE - 1
        extra = trial.random.randrange(40) if figures else -trial.random.randrange(max(1, trial.operations // rounds))
        at = trial.operations + extra if figures else (turn + 1) * trial.operations // rounds + extra
        trial.trial(kinds[kind], min(max(at, 0), trial.operations + 40), figures)
    return trial


def program() -> int:
    (n,) = count_arguments(__doc__, N=300)
    if reason := why_no_mounts():
        print(reason)
        return 2
    with tempfile.TemporaryDirectory(dir=memory_disk()) as directory:
        trial = failed(n, seed=n, work=Path(directory))
    print(
        f"{trial.operations} file operations; {n} runs on disks that are full, without inodes, limited, denied or "
        f"read-only, of which {trial.refused} ended in an error; {len(trial.wrong)} went wrong"
    )
    print("\n".join(trial.wrong))
    return bool(trial.wrong)


if __name__ == "__main__":
    sys.exit(program())
