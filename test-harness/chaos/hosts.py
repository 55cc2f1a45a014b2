"""Two orchestratord and two pool-managerd with their workers, each process to be killed, stopped and started again; with
`isolated`, each in a network namespace of its own, joined pairwise by links that can be cut in one direction or both."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading

from orch_cluster import binary_dir, mock_pool, native_pool, request, wait_until

HERE = pathlib.Path(__file__).resolve().parent
GATEWAYS, MANAGERS = ("gateway-1", "gateway-2"), ("manager-1", "manager-2")
WORDS = [f"w{n}" for n in range(40)]
CLONE_NEWNET = 0x40000000
RELAY_PORT = 7000


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def why_not_isolated():
    """Why network namespaces cannot be used here; None: they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"orch-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "exec", name, "ip", "route", "add", "blackhole", "192.0.2.0/24")
        run("ip", "netns", "exec", name, "unshare", "-m", "true")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces: {getattr(error, 'stderr', '') or error}".strip()
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None


class Host:
    """One process of the product with its configuration and state, in a namespace or not."""

    def __init__(self, site, name, binary, config, namespace):
        self.site, self.name, self.binary, self.namespace = site, name, binary, namespace
        self.state = pathlib.Path(config["state_dir"])
        self.config_path = site.dir / f"{name}.yaml"
        self.config_path.write_text(json.dumps(config))  # JSON is YAML
        self.process = self.url = None

    def start(self):
        (self.state / "http.port").unlink(missing_ok=True)
        command = [str(binary_dir() / self.binary), "--config", str(self.config_path)]
        if self.namespace:
            mounts = "".join(f"mount --bind {shown} {real} && " for shown, real in self.site.shown.get(self.name, []))
            command = ["ip", "netns", "exec", self.namespace, "unshare", "-m", "sh", "-c", mounts + "exec " + " ".join(command)]
        with open(self.site.dir / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def port():
            if self.process.poll() is not None:
                tail = (self.site.dir / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {tail}")
            file = self.state / "http.port"
            return file.exists() and file.read_text().strip()
        self.url = f"http://127.0.0.1:{wait_until(port, 30, f'{self.name} listens')}"

    def pid(self):
        return self.process.pid  # ip, unshare and sh replace themselves by the next

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def request(self, method, path, body=None, headers=None, timeout=10):
        with inside(self.namespace):
            return request(method, self.url + path, body, headers, timeout)


@contextlib.contextmanager
def inside(namespace):
    """This thread's new sockets live in that network namespace."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(other, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(own, CLONE_NEWNET)
        os.close(own)
        os.close(other)


class Site:
    """Use as a context manager."""

    def __init__(self, isolated, engine="mock"):
        self.isolated, self.engine = isolated, engine
        self._temporary = tempfile.TemporaryDirectory(prefix="chaos")
        self.dir = pathlib.Path(self._temporary.name)
        self.relays, self.shown, self.cuts, self.hosts = [], {}, set(), {}
        self.prefix = f"orch{os.getpid()}-"

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for host in self.hosts.values():
            if host.process and host.process.poll() is None:
                host.process.send_signal(signal.SIGCONT)
                host.process.terminate()
        for host in self.hosts.values():
            if host.process:
                try:
                    host.process.wait(20)
                except subprocess.TimeoutExpired:
                    host.kill()
        for relay in self.relays:
            relay.kill()
            relay.wait()
        if self.isolated:
            for name in GATEWAYS + MANAGERS:
                subprocess.run(["ip", "netns", "del", self.prefix + name], capture_output=True, check=False)
        self._temporary.cleanup()

    def _namespace(self, name):
        return self.prefix + name if self.isolated else None

    def _start(self):
        script = self.dir / "script.json"
        script.write_text(json.dumps({"text": " ".join(WORDS), "token_delay_ms": 25}))
        pool = native_pool(slots=2, ctx=512, threads=1) if self.engine == "native" else mock_pool(mock_script=str(script), slots=2)
        for name in MANAGERS:
            state = self.dir / name
            state.mkdir(mode=0o700)
            self.hosts[name] = Host(self, name, "pool-managerd", {
                "state_dir": str(state), "grpc": {"listen": f"unix:{state}/run/manager.sock"}, "http": {"listen": "127.0.0.1:0"},
                "lease": {"ttl_ms": 3000}, "restart": {"initial_ms": 100, "max_ms": 1000, "breaker_failures": 1000},
                "pools": [pool]}, self._namespace(name))
            (state / "run").mkdir(mode=0o700)
        for name in GATEWAYS:
            state = self.dir / name
            state.mkdir(mode=0o700)
            self.hosts[name] = Host(self, name, "orchestratord", {
                "state_dir": str(state), "http": {"listen": "127.0.0.1:0"}, "grpc": {"listen": "127.0.0.1:0"},
                "streams": {"reconnect_grace_ms": 60000},
                "managers": [{"endpoint": f"unix:{self.dir}/{m}/run/manager.sock"} for m in MANAGERS]}, self._namespace(name))
        if self.isolated:
            self._join()
        for name in MANAGERS + GATEWAYS:
            self.hosts[name].start()

    # --- the network: one link for each gateway and manager ---

    def _join(self):
        for name in GATEWAYS + MANAGERS:
            run("ip", "netns", "add", self.prefix + name)
            run("ip", "-n", self.prefix + name, "link", "set", "lo", "up")
        for g, gateway in enumerate(GATEWAYS):
            for m, manager in enumerate(MANAGERS):
                near, far = f"og{g}{m}", f"om{g}{m}"
                run("ip", "link", "add", near, "netns", self.prefix + gateway, "type", "veth", "peer", "name", far, "netns",
                    self.prefix + manager)
                for namespace, device, end in ((gateway, near, "1"), (manager, far, "2")):
                    run("ip", "-n", self.prefix + namespace, "addr", "add", f"10.77.{g * 2 + m}.{end}/24", "dev", device)
                    run("ip", "-n", self.prefix + namespace, "link", "set", device, "up")
                shown = self.dir / f"{gateway}-sees-{manager}"
                shown.mkdir(mode=0o700)
                self.shown.setdefault(gateway, []).append((shown, self.dir / manager / "run"))
                self._relay(manager, "exit", f"10.77.{g * 2 + m}.2", str(RELAY_PORT))
                self._relay(gateway, "entry", str(shown), str(self.dir / manager / "run"), f"10.77.{g * 2 + m}.2", str(RELAY_PORT))

    def _relay(self, name, *arguments):
        with open(self.dir / "relay.log", "ab") as log:
            self.relays.append(subprocess.Popen(["ip", "netns", "exec", self.prefix + name, sys.executable, str(HERE / "relay.py"), *arguments],
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def cut(self, gateway, manager, ways=("out", "in")):
        """`out`: nothing from the gateway reaches the manager; `in`: the other way."""
        net = GATEWAYS.index(gateway) * 2 + MANAGERS.index(manager)
        for way in ways:
            namespace, target = (gateway, f"10.77.{net}.2") if way == "out" else (manager, f"10.77.{net}.1")
            run("ip", "-n", self.prefix + namespace, "route", "add", "blackhole", target + "/32")
            self.cuts.add((namespace, target))

    def mend(self):
        for namespace, target in self.cuts:
            run("ip", "-n", self.prefix + namespace, "route", "del", "blackhole", target + "/32")
        self.cuts.clear()

    # --- looking ---

    def replicas(self, manager):
        return self.hosts[manager].request("GET", "/v1/replicas").json()["replicas"]

    def worker_pid(self, manager):
        return next((r["pid"] for r in self.replicas(manager) if r.get("pid")), None)

    def workers_alive(self, manager):
        """{replica: pids of living worker processes}, from the command lines, whatever anybody believes."""
        out = {}
        mark = f"unix:{self.dir}/{manager}/run/".encode()
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                listen = next((a for a in arguments if a.startswith(mark) and a != mark + b"manager.sock"), None)
                if listen and "State:\tZ" not in (entry / "status").read_text():
                    replica = listen[len(mark):].decode().rsplit("-", 1)[0]
                    out.setdefault(replica, []).append(int(entry.name))
        return out
