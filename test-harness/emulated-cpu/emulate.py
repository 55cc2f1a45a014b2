"""Runs a static program on an emulated CPU: `emulate.py --firmware FILE --cpu MODEL [--registers MASK] [--expect TEXT] PROGRAM [ARGUMENT...]`.

The emulator is Bochs from Debian; MODEL is one of `bochs --help cpu`. Nothing boots but firmware.cc, so a program starts at once. What it
prints comes over a serial port. Exit status: the program's; 2 when the emulator cannot run, 3 when it ran past --seconds, 4 when a
text that --expect names was not printed. The last line says how many instructions ran and how long that took.
"""

import argparse
import os
import pathlib
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

SECTOR = 512
CYLINDER = 16 * 63 * SECTOR  # what the emulated disk is counted in
VIDEO_BIOS = "/usr/share/bochs/VGABIOS-lgpl-latest"  # asked for, never run
MACHINE = """memory: guest=256, host=256
romimage: file={firmware}
vgaromimage: file={video}
ata0-master: type=disk, path={folder}/disk, mode=flat
cpu: model={cpu}, count=1, ips=50000000, reset_on_triple_fault=0
com1: enabled=1, mode=file, dev={folder}/serial
display_library: term
sound: driver=dummy
speaker: enabled=0
clock: sync=none
log: {folder}/log
panic: action=fatal
error: action=report
info: action=report
"""


def refuse(text):
    print(text, file=sys.stderr)
    sys.exit(2)


def write_disk(path, program, arguments, registers):
    """Sector 0: the number of sectors, the register sets, the arguments, a line each; from sector 1 on the program. firmware.cc reads
    this."""
    lines = "\n".join(["program", *arguments]).encode()
    if len(lines) > SECTOR - 9:
        refuse(f"the arguments have {len(lines)} bytes, at most {SECTOR - 9}")
    image = program.read_bytes()
    sectors = 1 + -(-len(image) // SECTOR)
    data = (sectors.to_bytes(4, "little") + registers.to_bytes(4, "little") + lines).ljust(SECTOR, b"\0") + image
    path.write_bytes(data.ljust(-(-len(data) // CYLINDER) * CYLINDER, b"\0"))


def swallow(descriptor):
    """The emulated screen; nobody looks at it, but it has to be read."""
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:
        pass


def emulate(folder, seconds):
    """Runs the machine described in the folder until it switches itself off. False: it ran past the limit."""
    master, slave = pty.openpty()
    # Debian builds Bochs with its debugger, which asks for a command first: continue.
    (folder / "commands").write_text("c\n")
    process = subprocess.Popen(["bochs", "-q", "-f", str(folder / "machine"), "-rc", str(folder / "commands")], stdin=slave, stdout=slave,
                               stderr=slave, env={**os.environ, "TERM": "linux"}, cwd=folder)
    os.close(slave)
    threading.Thread(target=swallow, args=[master], daemon=True).start()
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--firmware", required=True, type=pathlib.Path)
    parser.add_argument("--cpu", required=True)
    parser.add_argument("--expect", action="append", default=[], help="a text that has to be printed")
    parser.add_argument("--registers", type=lambda text: int(text, 0), default=0xE7, help="register sets that are enabled (XCR0)")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if shutil.which("bochs") is None or not pathlib.Path(VIDEO_BIOS).exists():
        refuse("no emulator: the packages bochs and bochs-term are missing (ci/deps.txt)")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="e") as name:
        folder = pathlib.Path(name)
        write_disk(folder / "disk", args.program, args.arguments, args.registers)
        (folder / "machine").write_text(MACHINE.format(firmware=args.firmware.resolve(), video=VIDEO_BIOS, folder=folder, cpu=args.cpu))
        ended = emulate(folder, args.seconds)
        serial, log = folder / "serial", folder / "log"
        text = serial.read_text(errors="replace") if serial.exists() else ""
        log_text = log.read_text(errors="replace") if log.exists() else ""
    print(text)
    exit_line = re.search(r"^== exit (\d+) after (\d+) instructions$", text, re.MULTILINE)
    took = time.monotonic() - start
    if exit_line is None:
        print("\n".join(log_text.splitlines()[-20:]))
        print(f"the machine did not end by itself after {took:.0f} s")
        sys.exit(2 if ended else 3)
    print(f"{args.cpu}: {int(exit_line[2]) / 1e6:.0f} million instructions in {took:.1f} s")
    missing = [expected for expected in args.expect if expected not in text]
    for expected in missing:
        print(f"not printed: {expected}")
    sys.exit(int(exit_line[1]) or (4 if missing else 0))


main()
