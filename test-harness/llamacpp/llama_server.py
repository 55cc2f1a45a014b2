"""llama.cpp's own HTTP server on a free loopback port, for tests. Prints its URL as the first line of standard output, writes
it to --url-file when given, and ends when its standard input ends, so that no test leaves one behind."""
import argparse
import os
import sys

import xllamacpp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--ctx", type=int, default=2048, help="tokens per slot")
    parser.add_argument("--url-file", help="written whole, by rename")
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx = options.ctx * options.slots
    params.n_parallel = options.slots
    params.cpuparams.n_threads = options.threads
    params.endpoint_metrics = True
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
