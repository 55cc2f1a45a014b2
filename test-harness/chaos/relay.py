"""Carries Unix-socket connections between two network namespaces over TCP, so that a cut between the namespaces is one.

    relay.py exit ADDRESS PORT                   beside the servers: the first line of a connection names the Unix socket
    relay.py entry SHOWN_DIR REAL_DIR ADDRESS PORT   beside the clients: SHOWN_DIR gets a socket for each one in REAL_DIR

A pool-managerd and its workers listen on Unix sockets only, and a path does not care for network namespaces: the clients'
mount namespace shows SHOWN_DIR in the place of REAL_DIR.
"""

import asyncio
import contextlib
import os
import pathlib
import socket
import sys


async def pump(reader, writer):
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def both_ways(left, right):
    await asyncio.gather(pump(left[0], right[1]), pump(right[0], left[1]))


def impatient(writer):
    """A peer that is silent for some seconds is gone, as a production network would be told by its keepalives."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 4000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 2), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def leave(reader, writer):
    impatient(writer)
    try:
        path = (await reader.readline()).decode().strip()
        inner = await asyncio.open_unix_connection(path)
    except OSError:
        writer.close()
        return
    await both_ways((reader, writer), inner)


async def enter(real, address, port, reader, writer):
    try:
        outer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
    except (OSError, asyncio.TimeoutError):
        writer.close()
        return
    impatient(outer[1])
    outer[1].write(f"{real}\n".encode())
    await both_ways((reader, writer), outer)


async def serve_entry(shown, real_dir, address, port):
    servers = {}
    while os.getppid() != 1:
        present = {p.name for p in real_dir.iterdir() if p.is_socket()} if real_dir.exists() else set()
        for name in present - servers.keys():
            (shown / name).unlink(missing_ok=True)
            servers[name] = await asyncio.start_unix_server(
                lambda r, w, real=real_dir / name: enter(real, address, port, r, w), shown / name)
        for name in servers.keys() - present:
            servers.pop(name).close()
            (shown / name).unlink(missing_ok=True)
        await asyncio.sleep(0.02)


async def serve_exit(address, port):
    await asyncio.start_server(leave, address, port)
    while os.getppid() != 1:
        await asyncio.sleep(0.5)


def main():
    if sys.argv[1] == "exit":
        asyncio.run(serve_exit(sys.argv[2], int(sys.argv[3])))
    else:
        asyncio.run(serve_entry(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])))


if __name__ == "__main__":
    main()
