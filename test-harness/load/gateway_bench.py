"""What the gateway costs, apart from any engine: `bench.py gateway latency`."""

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from orch_cluster import Cluster, binary_dir, mock_pool, wait_until

LATENCY_TOKENS = 40
LATENCY_TOKEN_MS = 200  # between two tokens of a stream: 1,000 streams make 5,000 events a second


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    line = next(l for l in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def http_bytes(body, host):
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


async def read_whole(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(next(l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")).split(b":")[1])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def whole_requests(port, body, connections, each):
    statuses = []

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(each):
            writer.write(http_bytes(body, "127.0.0.1"))
            statuses.append(await read_whole(reader))
        writer.close()
    await asyncio.gather(*(one() for _ in range(connections)))
    return statuses


async def streams(port, body, count):
    events = 0

    async def one():
        nonlocal events
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http_bytes(body, "127.0.0.1"))
        while True:
            data = await reader.read(65536)
            events += data.count(b"data: ")
            if not data or b"[DONE]" in data:
                break
        writer.close()
    await asyncio.gather(*(one() for _ in range(count)))
    return events


def bench_gateway(rounds):
    out = {}
    with Cluster([mock_pool(slots=64)], orchestratord={"queue": {"capacity": 4096, "interactive_capacity": 4096}}) as cluster:
        cluster.wait_ready()
        pid, port = cluster.processes["orchestratord"].pid, int(cluster.url.rsplit(":", 1)[1])
        time.sleep(1)
        out["idle RSS MiB"] = rss_mib(pid)
        content = "x" * 400
        whole = json.dumps({"model": "mock-model", "messages": [{"role": "user", "content": content}], "max_tokens": 1}).encode()
        stream = json.dumps({"model": "mock-model", "messages": [{"role": "user", "content": content}], "max_tokens": 64, "stream": True}).encode()
        asyncio.run(whole_requests(port, whole, 8, 20))
        per_request, per_event = [], []
        for _ in range(rounds):
            before = cpu_seconds(pid)
            statuses = asyncio.run(whole_requests(port, whole, 32, 100))
            assert set(statuses) == {200}, set(statuses)
            per_request.append((cpu_seconds(pid) - before) / len(statuses) * 1e6)
            before = cpu_seconds(pid)
            events = asyncio.run(streams(port, stream, 60))
            per_event.append((cpu_seconds(pid) - before) / events * 1e6)
        out["request body bytes"] = len(whole)
        out["CPU us per request (1 token, not streamed, c=32)"] = statistics.median(per_request)
        out["CPU us per SSE event (60 streams of 64 tokens, request included)"] = statistics.median(per_event)
        out["RSS MiB after load"] = rss_mib(pid)
    print("\ngateway: orchestratord alone, mock engine behind it, gRPC to the worker included")
    for name, value in out.items():
        print(f"{name:70}{value:10.1f}")
    targets = {"idle RSS MiB": "<= 40", "CPU us per request (1 token, not streamed, c=32)": "<= 25",
               "CPU us per SSE event (60 streams of 64 tokens, request included)": "<= 6"}
    return {"values": out, "figures": [{"what": f"orchestratord: {name.split(' (')[0]}", "value": f"{value:.1f}", "target": targets.get(name)}
                                       for name, value in out.items() if name != "request body bytes"]}


def bench_latency(rounds):
    """What the way from the engine through the gateway adds to a token, and what an open stream holds in the gateway."""
    out = {}
    with tempfile.TemporaryDirectory(prefix="orch") as folder:
        script = pathlib.Path(folder, "script.json")
        script.write_text(json.dumps({"clock": True, "repeat": LATENCY_TOKENS, "token_delay_ms": LATENCY_TOKEN_MS}))
        pool = mock_pool(slots=64, replicas=16, mock_script=str(script))
        with Cluster([pool], orchestratord={"queue": {"capacity": 4096, "interactive_capacity": 4096}}) as cluster:
            cluster.wait_ready()
            wait_until(lambda: all(r["state"] == "ready" for r in cluster.replicas()), 60, "all replicas")
            pid, port = cluster.processes["orchestratord"].pid, cluster.url.rsplit(":", 1)[1]
            for count in (1, 100, 1000):
                runs, held = [], []
                for _ in range(rounds):
                    before, most = rss_mib(pid), 0.0
                    with subprocess.Popen([str(binary_dir() / "latency_bench"), port, "mock-model", str(count), str(LATENCY_TOKENS)],
                                          stdout=subprocess.PIPE, text=True) as client:
                        while client.poll() is None:
                            most = max(most, rss_mib(pid))
                            time.sleep(0.2)
                        assert client.returncode == 0
                        runs.append(json.loads(client.stdout.read()))
                    held.append((most - before) * 1024 / count)
                out[count] = {key: statistics.median(run[key] for run in runs) for key in ("tokens", "p50", "p90", "p99", "p999", "max")}
                out[count]["KiB"] = held[0]
    print(f"\nlatency: us from the mock engine to the client's read, one token per stream every {LATENCY_TOKEN_MS} ms, medians of {rounds} runs; "
          "memory of orchestratord per stream, first run")
    print(f"{'streams':>8}{'tokens':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>10}{'KiB a stream':>14}")
    for count, one in out.items():
        print(f"{count:8}{one['tokens']:9.0f}{one['p50']:9.1f}{one['p90']:9.1f}{one['p99']:9.1f}{one['p999']:9.1f}{one['max']:10.1f}{one['KiB']:14.1f}")
    figures = []
    for count, one in out.items():
        at = count == 1000
        figures += [{"what": f"added latency at {count} streams, p50", "value": f"{one['p50']:.0f} us", "target": "<= 50 us" if at else None},
                    {"what": f"added latency at {count} streams, p99", "value": f"{one['p99']:.0f} us", "target": "<= 500 us" if at else None},
                    {"what": f"memory of orchestratord a stream, {count} streams", "value": f"{one['KiB']:.1f} KiB", "target": "<= 24 KiB" if at else None}]
    return {"streams": out, "figures": figures}
