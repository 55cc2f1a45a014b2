#!/usr/bin/env bash
# Proves the two commands on a machine with nothing on it: makes an empty Debian root with only git and certificates in it,
# clones HEAD into it, runs `up` twice, a few commands against the cluster, `down`, and `test`. Prints the transcript.
#
# usage: empty_root.sh DIRECTORY [SUITE]     as root; needs debootstrap; DIRECTORY must not exist and is left for a look
#   MIRROR=URL  Debian mirror; default: the first one of this machine's apt sources
# The root shares the network, so port 8080 must be free. Python's tools inside trust the root's own certificate store,
# which is a copy of this machine's.
set -euo pipefail

root=${1:?usage: empty_root.sh DIRECTORY [SUITE]}
suite=${2:-bookworm}
here=$(cd "$(dirname "$0")/../.." && pwd)
[[ $EUID == 0 ]] || { echo "must be root" >&2; exit 2; }
[[ ! -e $root ]] || { echo "$root exists" >&2; exit 2; }
command -v debootstrap > /dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 2; }
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -1)}

debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$root" "$mirror" > "$root.debootstrap.log"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# debootstrap writes no hosts file; the installer and every container runtime do.
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
git clone -q --bare "$here" "$root/llama-orch.git"

unmount() { umount -R -l "$root/proc" "$root/sys" "$root/dev" 2> /dev/null || true; }
trap unmount EXIT
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"  # so that unmounting here unmounts nothing of the machine's own

cat > "$root/both_commands.sh" <<'INSIDE'
export HOME=/root LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 TIMEFORMAT='took %0lR'
cd
PS4='# '
set -x
cat /etc/debian_version
dpkg-query -f '.' -W | wc -c
git clone -q /llama-orch.git llama-orch
cd llama-orch
git log -1 --format=%h
time ./llama-orch up
time ./llama-orch up
./llama-orch run "What is two plus two?"
./llama-orch ps
./llama-orch status
curl -sN localhost:8080/v1/chat/completions -d '{"model":"smollm2-135m-instruct","stream":true,"max_tokens":4,"messages":[{"role":"user","content":"Hello"}]}'
./llama-orch down
time ./llama-orch test
INSIDE
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb chroot "$root" bash /both_commands.sh 2>&1
