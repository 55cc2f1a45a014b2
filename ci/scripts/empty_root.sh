#!/usr/bin/env bash
# Proves the two commands on a machine with nothing on it: makes an empty root with only git and certificates in it, clones
# HEAD into it, runs `up` twice, a few commands against the cluster, `down`, and `test`. Prints the transcript.
#
# usage: empty_root.sh DIRECTORY [SUITE]     as root; needs debootstrap; DIRECTORY must not exist and is left for a look
#   SUITE       bookworm (default) | trixie | noble: Debian 12, Debian 13, Ubuntu 24.04
#   MIRROR=URL  default: the first one of this machine's apt sources; for noble Ubuntu's own
#   TIER=none   leaves `test` out; or the tier to test (default full)
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
tier=${TIER:-full}

if [[ $suite == noble ]]; then
  mirror=${MIRROR:-http://archive.ubuntu.com/ubuntu}
  # Debian's debootstrap knows neither this suite nor its keys.
  keys=$(mktemp -d)
  curl -fsS -o "$keys/keys.deb" "$mirror/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
  sha256sum --quiet -c <<< "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8  $keys/keys.deb"
  dpkg-deb -x "$keys/keys.deb" "$keys"
  debootstrap --variant=minbase --include=git,ca-certificates --components=main,universe \
    --keyring="$keys/usr/share/keyrings/ubuntu-archive-keyring.gpg" noble "$root" "$mirror" \
    /usr/share/debootstrap/scripts/jammy > "$root.debootstrap.log"
  rm -r "$keys"
  # The installer writes these two; debootstrap does not.
  printf "deb $mirror noble-%s main universe\n" updates security >> "$root/etc/apt/sources.list"
else
  debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$root" "$mirror" > "$root.debootstrap.log"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# debootstrap writes no hosts file; the installer and every container runtime do.
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
git clone -q --bare "$here" "$root/llama-orch.git"

unmount() { umount -R -l "$root" 2> /dev/null || true; }
trap unmount EXIT
# A mount of its own, as on a machine: without one no process inside can have mounts of its own.
mount --bind "$root" "$root"
mount --make-private "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"  # so that unmounting here unmounts nothing of the machine's own

cat > "$root/both_commands.sh" <<'INSIDE'
export HOME=/root LANG=C.UTF-8 PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DEFAULT_TIMEOUT=180 TIMEFORMAT='took %0lR'
cd
PS4='# '
set -x
. /etc/os-release; echo "$PRETTY_NAME"
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
[ "$TIER" = none ] || time ./llama-orch test "$TIER"
INSIDE
env -i TIER="$tier" PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb chroot "$root" bash /both_commands.sh 2>&1
