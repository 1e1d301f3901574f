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

# Small sweeps, and what became of them; to be called in the trial's folder.
GRU="data=world_ratings model=rnn/gru4rec model.dim=8 model.hidden=8 model.view.max_length=10 tracker=none callbacks=none"
sweep() { timeout -k 5 600 "$PYTHON" -m marquee train -m "$@"; }   # as it is typed
told() {  # told NAME FIELD [OUTPUT]: this field of every job of a sweep, or weights, resumed, of its run
  "$PYTHON" - "$1" "$2" "${3:-outputs}" <<'PY'
import json, sys
from pathlib import Path
name, field, output = sys.argv[1:]
def of(job):
    if field in job: return job[field]
    run = json.loads((Path(output) / "runs" / job["run"] / "manifest.json").read_text())
    return run["checkpoint"]["weights_sha256"] if field == "weights" else len(run.get("resumed") or [])
print(*[of(job) for job in json.loads((Path(output) / "sweeps" / name / "sweep.json").read_text())["jobs"]])
PY
}
runs_of() { grep -ls "\"sweep\": \"$1\"" outputs/runs/*/manifest.json | wc -l; }

run() {  # run [--quick | SCENARIO...]: `quick`, these, or all of $scenarios; exits with 0 where all of it held
  local scenario chosen=${*:-$scenarios}
  [ "$chosen" = --quick ] && chosen=quick
  for scenario in $chosen; do
    case " quick $scenarios " in
      *" $scenario "*) $scenario ;;
      *) echo "there is no scenario $scenario: --quick, or some of $scenarios"; failed=1 ;;
    esac
  done
  [ $failed = 0 ] && echo "all of it held" || echo "something did not hold"
  exit $failed
}
