"""Several hosts on one machine: network namespaces, each with a link of its own to one switch, and mpiexec across them.

Root alone can create them.  They are removed with the block that uses them, and all processes on them are killed; what
a process that was killed itself has left is removed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import TracebackType

PREFIX = "nanograd"  # of the namespaces' names, before the number of the process that created them
NETWORK = "10.77.0."
BURST = 128_000  # bytes that a link may send at once: two of the largest packets that Linux hands down
QUEUE = "50ms"  # before a link drops packets
TCP_ONLY = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0"}  # else MPICH finds shared memory between the hosts
TOOLS = "ip", "tc", "unshare"

REMOTE_SHELL = r"""#!/bin/bash
# stands in for ssh: [OPTION]... ADDRESS COMMAND...
while [[ $1 == -* ]]; do case $1 in -o|-l|-p) shift 2;; *) shift;; esac; done
host=h$((${1##*.} - 1)); shift
exec ip netns exec PREFIX-$host unshare --uts bash -c "hostname $host; $*"
"""


@cache
def missing() -> str | None:
    """Return why hosts cannot be imitated here; None if they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"network namespaces need {', '.join(absent)}"
    trial = f"{PREFIX}-{os.getpid()}-trial"
    try:
        _run("ip", "netns", "add", trial)
        _run("ip", "netns", "del", trial)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"
    if find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    mpiexec = _mpiexec()
    if mpiexec is None or "HYDRA" not in subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout:
        return "MPICH's mpiexec is not installed"
    return None


class Hosts:
    """n hosts, h0, h1 and so on; a context manager.

    bits_per_second     of each host's link in each direction; None: as fast as the machine copies
    """

    def __init__(self, n: int, bits_per_second: float | None = None) -> None:
        self.n, self.bits_per_second = n, bits_per_second
        self.name = f"{PREFIX}-{os.getpid()}"
        self.names = [f"{self.name}-h{i}" for i in range(n)]
        self.folder = TemporaryDirectory()
        self.running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Hosts:
        _remove_abandoned()
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> None:
        """Create the switch, and connect each host to it."""
        switch = f"{self.name}-switch"
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        for i, host in enumerate(self.names):
            port = f"port{i}"
            _run("ip", "netns", "add", host)
            _run(*f"ip link add eth0 netns {host} type veth peer name {port} netns {switch}".split())
            _run("ip", "-n", host, "addr", "add", f"{address(i)}/24", "dev", "eth0")
            _run("ip", "-n", switch, "link", "set", port, "master", "bridge")
            for space, interface in ((host, "lo"), (host, "eth0"), (switch, port)):
                _run("ip", "-n", space, "link", "set", interface, "up")
            if self.bits_per_second is not None:
                limit = f"root tbf rate {self.bits_per_second:.0f}bit burst {BURST} latency {QUEUE}".split()
                for space, interface in ((host, "eth0"), (switch, port)):
                    _run("tc", "-n", space, "qdisc", "add", "dev", interface, *limit)
        shell = Path(self.folder.name, "shell")
        shell.write_text(REMOTE_SHELL.replace("PREFIX", self.name), encoding="utf-8")
        shell.chmod(0o755)

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command as one rank on each host, by the mpiexec of host 0."""
        mpiexec = _mpiexec()
        assert mpiexec is not None  # see missing
        variables = [word for name, value in {**TCP_ONLY, **(env or {})}.items() for word in ("-genv", name, value)]
        words = [
            *("ip", "netns", "exec", self.names[0], "unshare", "--uts", "bash", "-c", 'hostname h0; exec "$@"', "bash"),
            *(mpiexec, "-launcher", "ssh", "-launcher-exec", f"{self.folder.name}/shell", "-localhost", address(0)),
            *("-hosts", ",".join(map(address, range(self.n))), "-n", str(self.n), "-ppn", "1", *variables, *command),
        ]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run(self, *command: str, seconds: float, env: Mapping[str, str] | None = None) -> str:
        """Run a command on all hosts; returns its output.  Raises SubprocessError if it fails or takes longer."""
        process = self.start(*command, env=env)
        output, errors = process.communicate(timeout=seconds)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output, errors)
        return output

    def sent(self, i: int) -> int:
        """Bytes that a host has sent so far, with all headers up to Ethernet's."""
        facts = json.loads(_run("ip", "-n", self.names[i], "-s", "-j", "link", "show", "dev", "eth0"))
        return int(facts[0]["stats64"]["tx"]["bytes"])

    def pull_cable(self, i: int) -> None:
        """Cut a host's link."""
        _run("ip", "-n", self.names[i], "link", "set", "eth0", "down")

    def processes(self, i: int) -> list[int]:
        """The processes on a host."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.names[i]).split()]

    def kill_all(self, i: int) -> None:
        """Kill all processes on a host at once, as where its power fails."""
        _kill_all(self.names[i])

    def close(self) -> None:
        """Kill all processes on the hosts, and remove them."""
        for name in self.names:
            _remove(name)
        _remove(f"{self.name}-switch")
        for process in self.running:
            process.kill()
            process.communicate()
        self.folder.cleanup()


def address(i: int) -> str:
    """A host's address in the switch's network."""
    return f"{NETWORK}{i + 1}"


def _mpiexec() -> str | None:
    """mpiexec beside this Python, where MPICH's wheel has it, or in PATH."""
    return shutil.which(str(Path(sys.executable).with_name("mpiexec"))) or shutil.which("mpiexec")


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line.strip()]


def _remove_abandoned() -> None:
    """Remove the hosts of processes that do not run any more."""
    for name in _namespaces():
        prefix, _, rest = name.partition("-")
        owner = rest.partition("-")[0]
        if prefix == PREFIX and owner.isdecimal() and not Path("/proc", owner).exists():
            _remove(name)


def _remove(name: str) -> None:
    if name in _namespaces():
        with suppress(subprocess.CalledProcessError):  # another process has removed it
            _kill_all(name)
            _run("ip", "netns", "del", name)


def _kill_all(name: str) -> None:
    """Kill the processes in a namespace until none is left; one that was just started may be missed at first."""
    deadline = monotonic() + 5
    while (pids := _run("ip", "netns", "pids", name).split()) and monotonic() < deadline:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        sleep(0.01)
