"""The native worker on a Vulkan device beside llama.cpp's Vulkan backend on the same one: `bench.py vulkan [--device vulkan:N]`."""

import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import zipfile

from measure import LAVAPIPE, NotHere, measure_chat, own_pool, rounds_within
from orch_cluster import MODEL_NAME, ROOT, Cluster, model_file

REQUIREMENTS = ROOT / "ci/requirements-vulkan.txt"


def package():
    return next(l for l in REQUIREMENTS.read_text().splitlines() if "==" in l).split()[0]


def llama_libraries():
    """Folder of llama.cpp's libraries with its Vulkan backend, from a published package of one pinned digest, in the cache of the user."""
    if platform.machine() != "x86_64":
        raise NotHere(f"the published llama.cpp with a Vulkan backend is for x86_64, this is {platform.machine()}")
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llama-orch" / package().replace("==", "-")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="orch", dir=folder.parent) as fetched:
            # Its libraries are used without Python, so the wheel need not be this Python's.
            done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
                                   "--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_31_x86_64",
                                   "-d", fetched, "-r", REQUIREMENTS], capture_output=True, text=True, check=False, timeout=600)
            if done.returncode != 0:
                raise NotHere(f"{package()} could not be fetched: {done.stderr.strip()[-300:]}")
            with zipfile.ZipFile(next(pathlib.Path(fetched).glob("*.whl"))) as wheel:
                wheel.extractall(pathlib.Path(fetched, "whole"))
            shutil.move(pathlib.Path(fetched, "whole"), folder)
    return next(folder.glob("*.libs"))


@contextlib.contextmanager
def llama_process(folder, model, device, prompt, tokens):
    """(what it says of itself, a function that has it do a round), in a process of its own. A software device has to be named to it, else
    it takes GPUs only."""
    environment = {**os.environ, **({"GGML_VK_VISIBLE_DEVICES": "0"} if device is None else {})}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, pathlib.Path(__file__).with_name("llama_vulkan.py"), folder, model, str(prompt), str(tokens)],
                                   env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        overdue = threading.Timer(1200, process.kill)
        overdue.start()

        def said():
            line = process.stdout.readline()
            if not line:
                errors.seek(0)
                raise NotHere(f"llama.cpp's Vulkan backend ended with {process.wait()}: {errors.read().strip()[-300:]}")
            return json.loads(line)

        def one_round():
            process.stdin.write("\n")
            process.stdin.flush()
            return said()
        try:
            yield said(), one_round
        finally:
            overdue.cancel()
            process.kill()
            process.wait()


def bench_vulkan(rounds, model, device, seconds):
    """`device` as workerd takes it; none: the software device. There llama.cpp compiles for minutes before it counts."""
    software = device is None
    if software:
        if not LAVAPIPE.exists():
            raise NotHere("no --device was named and the software device of mesa-vulkan-drivers is not installed")
        os.environ["VK_ICD_FILENAMES"] = str(LAVAPIPE)
    tokens = 16 if software else 256
    folder = llama_libraries()
    with Cluster([own_pool(model, device=device or "vulkan:0", slots=1, ctx=1024)]) as cluster:
        url = cluster.wait_ready(120).url
        prompt, *_ = measure_chat(url, MODEL_NAME, 0, tokens)
        ours, theirs = [], []
        with llama_process(folder, model or model_file(), device, prompt, tokens) as (rival, one_round):
            for number in rounds_within(rounds, seconds / 2):
                prompt, ttft, generated, decoding = measure_chat(url, MODEL_NAME, number, tokens)
                its = one_round()
                if number > 0:
                    ours.append((prompt / ttft, (generated - 1) / decoding))
                    theirs.append((its["prefill"], its["decode"]))
    prefill, decode = (statistics.median(column) for column in zip(*ours))
    medians = [statistics.median(column) for column in zip(*theirs)]
    theirs = {**rival, "rounds": theirs, "prefill": medians[0], "decode": medians[1]}
    print(f"\nvulkan: {device or 'software device'}, prompt of {prompt} tokens, {tokens} decoded, medians of {len(ours)} interleaved rounds; "
          f"ours over HTTP, llama.cpp ({package()}, on {theirs['device']}) in its own process, ready after {theirs['ready_s']} s\n"
          f"{'':18}{'prefill tok/s':>15}{'decode tok/s':>14}")
    print(f"{'native':18}{prefill:15.1f}{decode:14.1f}\n{'llama.cpp':18}{theirs['prefill']:15.1f}{theirs['decode']:14.1f}")
    print(f"native / llama.cpp: prefill {prefill / theirs['prefill']:.2f}x, decode {decode / theirs['decode']:.2f}x")
    targets = ("3x", "3x") if software else ("", "1.3x")
    on = f"Vulkan ({device or 'software device'})"
    return {"native": ours, "llama.cpp": theirs, "figures": [
        {"what": f"{on} {what}, ours / llama.cpp", "value": f"{mine:.1f} / {theirs[what]:.1f} tok/s, {mine / theirs[what]:.2f}x", "target": target}
        for what, mine, target in (("prefill", prefill, targets[0]), ("decode", decode, targets[1]))]}
