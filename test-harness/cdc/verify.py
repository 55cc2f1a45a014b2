"""Verifies the committed pact against a server. usage: verify.py BASE_URL; the server's cluster must be as README.md says."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
PACT = HERE.parents[1] / "contracts/pact/orch-queue-client-orchestratord.json"
sys.path.insert(0, str(HERE))

from pact import Verifier  # noqa: E402

import states  # noqa: E402


def verify(base_url):
    """(accepted, report)"""
    verifier = Verifier("orchestratord", host="127.0.0.1").add_transport(url=base_url).add_source(PACT)
    verifier.set_request_timeout(30_000)
    verifier.set_coloured_output(enabled=False)
    provider, unreached = states.States(base_url), []

    def handle(state, action, parameters):
        # The verifier waits for ever on a handler that raises.
        try:
            provider.handle(state, action, parameters)
        except Exception as error:
            unreached.append(f"{action} of \"{state}\": {error!r}")

    verifier.state_handler(handle, teardown=True)
    try:
        verifier.verify()
    except RuntimeError as error:
        unreached.append(str(error))
    return not unreached, "\n".join([*unreached, str(verifier.output(strip_ansi=True))])


if __name__ == "__main__":
    accepted, report = verify(sys.argv[1])
    print(report)
    sys.exit(0 if accepted else 1)
