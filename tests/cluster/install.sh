#!/usr/bin/env bash
# Installs what tests/cluster needs and this machine lacks, with apt, where it may; says what it did and what it could
# not. It never fails: tests that lack something are skipped, and say so.
set -u

has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null; }

missing=()
has slurmctld && has slurmd && has sbatch || missing+=(slurm-wlm)
has munged || missing+=(munge)

if [ ${#missing[@]} -eq 0 ]; then
    echo "Cluster tests: Slurm and munge are installed."
    exit 0
fi
install=(apt-get install -y --no-install-recommends "${missing[@]}")
if ! has apt-get; then
    echo "Cluster tests: not installed: ${missing[*]}. There is no apt-get here; what needs them is skipped."
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif has sudo && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "Cluster tests: not installed: ${missing[*]}. Installing needs root; what needs them is skipped. The command:"
    echo "  sudo ${install[*]}"
    exit 0
fi
echo "Cluster tests: installing ${missing[*]} with apt."
log=$(mktemp)
if ${as_root[@]+"${as_root[@]}"} timeout 120 apt-get update >"$log" 2>&1 &&
    ${as_root[@]+"${as_root[@]}"} timeout 900 env DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$log" 2>&1; then
    echo "Cluster tests: installed."
else
    echo "Cluster tests: ${install[*]} failed; what needs them is skipped. The end of what it said:"
    tail -n 5 "$log" | sed 's/^/  /'
fi
rm -f "$log"
exit 0
