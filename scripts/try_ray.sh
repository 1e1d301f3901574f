#!/bin/bash
# Marquee on a Ray cluster of two nodes, one of which dies: starts both on this machine (Ray's own cluster for tests) in
# a temporary folder, runs small sweeps, checks what must hold, stops everything. Exit code 0: all of it held.
#
#   scripts/try_ray.sh            every scenario, some 3 minutes on two cores
#   scripts/try_ray.sh --quick    what the suite does: a node dies while its job runs
#
# Needs marquee[ray] for the Python in $PYTHON.
engine=ray
source "$(dirname "$0")/trying.sh"
"$PYTHON" -c 'import importlib.util as i, sys; sys.exit(i.find_spec("ray") is None)' || { echo "no Ray here: pip install 'marquee[ray]'"; exit 1; }

begin
cluster=

stop() {
  exec 3>&-  # the cluster ends with its standard input
  [ -n "$cluster" ] && wait "$cluster" 2>/dev/null
  kill $(jobs -p) 2>/dev/null
}

# The engine -----------------------------------------------------------------------------------------------------------

cd "$here/trial" || exit 1
export RAY_AUTH_MODE=disabled RAY_memory_monitor_refresh_ms=0
# Ray writes its address into a folder that it expects to stand: by default one that all clusters of the machine share.
export RAY_TMPDIR=$here
mkdir -p "$here/ray"
mkfifo "$here/orders"
cat > "$here/cluster.py" <<'PY'
import sys
from ray.cluster_utils import Cluster

shared = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": sys.argv[1], **shared})
other = cluster.add_node(num_cpus=1, **shared)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "die":  # as by a power cut
        cluster.remove_node(other, allow_graceful=False)
        other = None
    elif other is None:  # another takes its place
        other = cluster.add_node(num_cpus=1, **shared)
    print("done", flush=True)
cluster.shutdown()
PY
"$PYTHON" "$here/cluster.py" "$here/ray" < "$here/orders" > "$here/told" 2> "$here/cluster.err" &
cluster=$!
exec 3> "$here/orders"
until_it 120 bash -c "grep -q : $here/told || ! kill -0 $cluster" && grep -q : "$here/told" || { tail -5 "$here/cluster.err"; exit 1; }
address=$(head -1 "$here/told")
echo "Ray $("$PYTHON" -c 'import ray; print(ray.__version__)'): two nodes of one core each, the head at $address"

# What is run ----------------------------------------------------------------------------------------------------------

RAY="hydra/launcher=ray hydra.launcher.address=$address"
trained() {  # trained NAME N: N of its runs have a checkpoint
  local n=0 run
  for run in outputs/sweeps/"$1"/jobs/*.run; do [ -s "outputs/runs/$(cat "$run")/checkpoints/last.ckpt" ] && n=$((n + 1)); done
  [ "$n" -ge "$2" ]
}

a_node_dies() {  # a_node_dies [EPOCHS]
  echo "two jobs on two nodes; one node dies; its job goes on at the other"
  local words="$GRU trainer.max_epochs=${1:-60} seed=1,2" began=$SECONDS launcher
  sweep $words sweep=death $RAY > death.out 2>&1 &
  launcher=$!
  until_it 300 trained death 2 || { cat death.out; return; }
  echo die >&3
  wait $launcher
  holds "exit code 0" is $? 0 || cat death.out
  holds "both finished" is "$(told death status)" "finished finished"
  holds "the dead node's job had two attempts and one run, which went on; the other was left alone" \
    is "$(told death attempts | tr ' ' '\n' | sort | xargs) $(told death resumed | tr ' ' '\n' | sort | xargs) $(runs_of death)" "1 2 0 1 2"
  sweep $words sweep=calm paths.output=calm > calm.out 2>&1
  holds "weights are those of a local sweep that nobody disturbed, bit for bit" is "$(told death weights)" "$(told calm weights calm)"
  sed -n '/failed /,/log:/p' death.out | cut -c1-140
  echo "   $((SECONDS - began)) s"
}

without_retries() {
  echo "what the launcher says of a job whose node died, without retries; and the same command again"
  local words="$GRU trainer.max_epochs=40 seed=3,4 sweep=once" began=$SECONDS launcher
  local orders
  orders=$(grep -c done "$here/told")
  echo new >&3
  until_it 120 bash -c "[ \$(grep -c done $here/told) -gt $orders ]" || return
  sweep $words $RAY hydra.launcher.retries=0 > once.out 2>&1 &
  launcher=$!
  until_it 300 trained once 2 || return
  echo die >&3
  wait $launcher
  holds "exit code 4" is $? 4
  holds "its node's death is told" grep -q "its worker or node was lost" once.out
  sweep $words $RAY > once.out 2>&1
  holds "the same command goes on: exit code 0, two runs" is "$? $(told once status) $(runs_of once)" "0 finished finished 2"
  echo "   $((SECONDS - began)) s"
}

quick() { a_node_dies "${EPOCHS:-25}"; }
scenarios="a_node_dies without_retries"
run "$@"
