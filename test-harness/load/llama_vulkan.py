"""llama.cpp's Vulkan backend as a rival, without its server: `llama_vulkan.py MODEL PROMPT_TOKENS DECODE_TOKENS` prints one line of JSON.

PyPI has llama.cpp's server for the CPU only, so this takes the shared libraries out of a package that `npm pack` fetches, its
digest pinned, into the cache of the user, and calls llama.cpp's C interface on the first Vulkan device, software devices included. Its two structures
of parameters are passed as blocks of bytes that are larger than they: only the context's first member, `n_ctx`, is changed."""

import base64
import ctypes
import hashlib
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

PACKAGE = "@node-llama-cpp/linux-x64-vulkan@3.22.1"
SHA512 = "bBxqU+JOcBu1nb5Qj2zcMci+JByT1E8EajHvYodyNfVIPkEhXh+/HMwR1/BT7xP08YK0hks+kM8fglER0P8JEg=="
VERSION = "node-llama-cpp 3.22.1, llama.cpp v0.5.0"


class Parameters(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits"))]


def libraries():
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "llama-orch/llama-cpp-vulkan-3.22.1"
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="orch") as fetched:
            subprocess.run(["npm", "pack", "--silent", "--pack-destination", fetched, PACKAGE], check=True, stdout=subprocess.DEVNULL, timeout=300)
            data = next(pathlib.Path(fetched).glob("*.tgz")).read_bytes()
        if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
            raise SystemExit("the package has another digest than the pinned one")
        half = folder.with_suffix(".part")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(half)
        half.rename(folder)
    return next(folder.glob("package/bins/*"))


def main():
    model_file, prompt_tokens, decode_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"  # named explicitly, a software device is taken too
    folder = libraries()
    ctypes.CDLL(folder / "libggml-base.so", ctypes.RTLD_GLOBAL)
    ggml = ctypes.CDLL(next(folder.glob("libggml.vulkan.*")), ctypes.RTLD_GLOBAL)
    llama = ctypes.CDLL(next(folder.glob("libllama.vulkan.*")), ctypes.RTLD_GLOBAL)
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(quiet, None)
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    for name, result, arguments in [("llama_model_default_params", Parameters, []), ("llama_context_default_params", Parameters, []),
                                    ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Parameters]),
                                    ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Parameters]),
                                    ("llama_batch_get_one", Batch, [ctypes.c_void_p, ctypes.c_int32]),
                                    ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]), ("llama_synchronize", None, [ctypes.c_void_p])]:
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    started = time.monotonic()
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(os.fsencode(model_file), llama.llama_model_default_params())
    parameters = llama.llama_context_default_params()
    ctypes.c_uint32.from_buffer(parameters, 0).value = 512
    context = llama.llama_init_from_model(model, parameters)
    if not context:
        raise SystemExit("llama.cpp made no context")

    def step(ids):
        array = (ctypes.c_int32 * len(ids))(*ids)
        begin = time.monotonic()
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(ids))) != 0:
            raise SystemExit("llama_decode failed")
        llama.llama_synchronize(context)
        return time.monotonic() - begin

    step([100])  # both shapes once: the driver compiles each pipeline when it is first used
    step(list(range(100, 100 + prompt_tokens)))
    ready = time.monotonic() - started
    prefill = prompt_tokens / step(list(range(200, 200 + prompt_tokens)))
    decode = 1 / statistics.median(step([300 + i]) for i in range(decode_tokens))
    print(json.dumps({"version": VERSION, "ready_s": round(ready, 1), "prefill": round(prefill, 2), "decode": round(decode, 2)}), flush=True)
    os._exit(0)  # nothing here is worth llama.cpp's long goodbye


if __name__ == "__main__":
    main()
