#!/usr/bin/env bash
# Verifies a proof bundle (OC-PROOF-1002). usage: verify_proof.sh DIR; what is verified: verify_proof.py.
set -euo pipefail
exec /usr/bin/python3 "$(dirname "${BASH_SOURCE[0]}")/verify_proof.py" "$@"
