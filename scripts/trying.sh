# What the scripts try_*.sh share: the Python to run, a temporary folder, and lines that say whether something holds.
# Sourced at their head with the engine's name in $engine; each defines `stop`, which ends what it has started.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo "$PWD/.venv/bin/python" || command -v python3)}
failed=0

begin() {  # a folder for this trial; nothing of the user's own is read or written
  here=$(mktemp -d "/tmp/try-$engine-XXXXXX")  # a short name: sockets lie in it
  chmod 755 "$here"
  mkdir "$here/trial"
  export MARQUEE_OUTPUT=$here/trial/outputs MARQUEE_CACHE=${MARQUEE_CACHE:-$here/cache} MARQUEE_DATA=$here/none
  export OMP_NUM_THREADS=1
  trap finish EXIT
  trap 'exit 1' INT TERM
}
finish() {
  stop
  if [ $failed = 0 ] || [ -z "${KEEP:-}" ]; then rm -rf "$here"; else echo "kept: $here"; fi
}
holds() {  # holds WORDS CONDITION...: a line that says whether it is so
  local words=$1
  shift
  if "$@"; then echo "  holds: $words"; else echo "  DOES NOT HOLD: $words"; failed=1; fi
}
until_it() {  # until_it SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "  DOES NOT HOLD: this never happened: $*"; failed=1; return 1; }
    sleep 0.3
  done
}
is() { [ "$1" = "$2" ] || { echo "    found:    $1"; echo "    expected: $2"; return 1; }; }
says() { grep -q "$1" "$2" || { sed 's/^/    | /' "$2"; return 1; }; }
