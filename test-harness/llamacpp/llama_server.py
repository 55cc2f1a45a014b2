"""llama.cpp's own HTTP server on a free loopback port, for tests. Prints its URL as the first line of standard output, writes
it to --url-file when given, and ends when its standard input ends, so that no test leaves one behind."""
import argparse
import os
import sys

import xllamacpp

FLASH_ATTENTION = {"auto": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
                   "on": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
                   "off": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--ctx", type=int, default=2048, help="tokens per slot")
    parser.add_argument("--flash-attention", choices=["auto", "on", "off"], default="auto")
    parser.add_argument("--cache", choices=["f16", "f32"], default="f16", help="type of keys and values")
    parser.add_argument("--no-repack", action="store_true", help="weights as they lie in the file")
    parser.add_argument("--embeddings", choices=["mean", "cls", "last"], help="serve /v1/embeddings, pooled so")
    parser.add_argument("--url-file", help="written whole, by rename")
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx = options.ctx * options.slots
    params.n_parallel = options.slots
    params.cpuparams.n_threads = options.threads
    params.endpoint_metrics = True
    params.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options.cache.upper()}")
    params.no_extra_bufts = options.no_repack
    if options.embeddings:
        params.embedding = True
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{options.embeddings.upper()}")
    server = xllamacpp.Server(params)
    url = server.listening_address
    if options.url_file:
        partial = options.url_file + ".part"
        with open(partial, "w", encoding="ascii") as file:
            file.write(url + "\n")
        os.rename(partial, options.url_file)
    print(url, flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's threads do not end on their own


if __name__ == "__main__":
    main()
