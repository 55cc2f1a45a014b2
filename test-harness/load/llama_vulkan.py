"""llama.cpp's Vulkan backend as a rival, without a server: `llama_vulkan.py FOLDER MODEL PROMPT_TOKENS DECODE_TOKENS` prints one line of
JSON when it is ready and, for each line that it reads, one more behind a round.

PyPI has no server of llama.cpp with Vulkan that runs without AVX-512, so this takes llama.cpp's shared libraries out of a published package
(vulkan_bench.py fetches it) and calls its C interface on the first Vulkan device; GGML_VK_VISIBLE_DEVICES=0 makes that a software device where
it is the only one. Its two structures of parameters are passed as blocks of bytes that are larger than they: only the context's first member,
`n_ctx`, is changed."""

import ctypes
import json
import os
import pathlib
import statistics
import sys
import time


class Parameters(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int32), *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits"))]


def main():
    folder, model_file = pathlib.Path(sys.argv[1]), sys.argv[2]
    prompt_tokens, decode_tokens = (int(argument) for argument in sys.argv[3:5])
    llama = ctypes.CDLL(next(folder.glob("libllama-*.so*")), ctypes.RTLD_GLOBAL)
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(quiet, None)
    for name, result, arguments in [("ggml_backend_load", ctypes.c_void_p, [ctypes.c_char_p]), ("ggml_backend_dev_count", ctypes.c_size_t, []),
                                    ("ggml_backend_dev_get", ctypes.c_void_p, [ctypes.c_size_t]),
                                    ("ggml_backend_dev_name", ctypes.c_char_p, [ctypes.c_void_p]),
                                    ("ggml_backend_dev_description", ctypes.c_char_p, [ctypes.c_void_p])]:
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    for backend in ("cpu", "vulkan"):
        llama.ggml_backend_load(os.fsencode(next(folder.glob(f"libggml-{backend}-*.so"))))
    devices = [llama.ggml_backend_dev_get(i) for i in range(llama.ggml_backend_dev_count())]
    vulkan = next((d for d in devices if llama.ggml_backend_dev_name(d) == b"Vulkan0"), None)
    if vulkan is None:
        raise SystemExit("llama.cpp sees no Vulkan device")
    for name, result, arguments in [("llama_model_default_params", Parameters, []), ("llama_context_default_params", Parameters, []),
                                    ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Parameters]),
                                    ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Parameters]),
                                    ("llama_batch_get_one", Batch, [ctypes.c_void_p, ctypes.c_int32]),
                                    ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]), ("llama_synchronize", None, [ctypes.c_void_p]),
                                    ("llama_get_memory", ctypes.c_void_p, [ctypes.c_void_p]),
                                    ("llama_memory_clear", None, [ctypes.c_void_p, ctypes.c_bool])]:
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    started = time.monotonic()
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(os.fsencode(model_file), llama.llama_model_default_params())
    parameters = llama.llama_context_default_params()
    ctypes.c_uint32.from_buffer(parameters, 0).value = prompt_tokens + decode_tokens + 64
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
    print(json.dumps({"device": llama.ggml_backend_dev_description(vulkan).decode(), "ready_s": round(ready, 1)}), flush=True)
    for number, _ in enumerate(sys.stdin):  # a round for each line
        llama.llama_memory_clear(llama.llama_get_memory(context), True)  # each round decodes behind one prompt
        prefill = prompt_tokens / step(list(range(200 + number, 200 + number + prompt_tokens)))
        decode = statistics.median(step([300 + i]) for i in range(decode_tokens))
        print(json.dumps({"prefill": round(prefill, 2), "decode": round(1 / decode, 2)}), flush=True)
    os._exit(0)  # nothing here is worth llama.cpp's long goodbye


if __name__ == "__main__":
    main()
