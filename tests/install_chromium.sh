#!/usr/bin/env bash
# Installs Chromium, in which tests open reports, with apt, where it may; says what it did and what it could not. It
# never fails: tests that lack Chromium are skipped, and say so.
set -u

for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then
        echo "Browser tests: Chromium is installed."
        exit 0
    fi
done
install=(apt-get install -y --no-install-recommends chromium)
if ! command -v apt-get >/dev/null; then
    echo "Browser tests: there is no Chromium and no apt-get here; what needs it is skipped."
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "Browser tests: there is no Chromium. Installing needs root; what needs it is skipped. The command:"
    echo "  sudo ${install[*]}"
    exit 0
fi
echo "Browser tests: installing Chromium with apt."
log=$(mktemp)
if ${as_root[@]+"${as_root[@]}"} timeout 120 apt-get update >"$log" 2>&1 &&
    ${as_root[@]+"${as_root[@]}"} timeout 900 env DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$log" 2>&1; then
    echo "Browser tests: installed."
else
    echo "Browser tests: ${install[*]} failed; what needs it is skipped. The end of what it said:"
    tail -n 5 "$log" | sed 's/^/  /'
fi
rm -f "$log"
exit 0
