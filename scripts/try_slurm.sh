#!/bin/bash
# Marquee on a real Slurm: starts one on this machine (munged, slurmctld, slurmd; one node) in a temporary folder, runs
# small sweeps on it, checks what must hold, stops everything. Exit code 0: all of it held.
#
#   scripts/try_slurm.sh            every scenario, some 8 minutes on two cores
#   scripts/try_slurm.sh --quick    what the suite does: an array, its launcher killed, a requeue
#
# Needs root and Debian's packages: apt-get install slurm-wlm munge; and marquee[slurm] for the Python in $PYTHON.
engine=slurm
source "$(dirname "$0")/trying.sh"
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || { echo "no $program here: apt-get install slurm-wlm munge"; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd needs root"; exit 1; }

begin
daemons=()

stop() {
  scancel --user=root 2>/dev/null
  sleep 1
  for file in "${daemons[@]}"; do [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null; done
  kill $(jobs -p) 2>/dev/null
  for _ in $(seq 50); do
    alive=0
    for file in "${daemons[@]}"; do [ -s "$file" ] && kill -0 "$(cat "$file" 2>/dev/null)" 2>/dev/null && alive=1; done
    [ $alive = 0 ] && break
    sleep 0.1
  done
}

# The engine -----------------------------------------------------------------------------------------------------------

free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

mkdir "$here"/{state,spool,munge}
head -c 128 /dev/urandom > "$here/munge/key"
chmod 600 "$here/munge/key"
node=$(hostname -s)
export SLURM_CONF=$here/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=trial
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobRequeue=1
KillWait=10
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
munged --force --socket="$here/munge/socket" --key-file="$here/munge/key" --pid-file="$here/munge/pid" \
  --log-file="$here/munge/log" --seed-file="$here/munge/seed" || exit 1
daemons+=("$here/munge/pid")
slurmctld || exit 1
daemons+=("$here/slurmctld.pid")
slurmd 2>"$here/slurmd.err" || { cat "$here/slurmd.err"; exit 1; }
daemons+=("$here/slurmd.pid")
until_it 60 bash -c '[ "$(sinfo --noheader --format=%t)" = idle ]' || { tail "$here"/*.log; exit 1; }
echo "$(sinfo --version) on $node, without accounting, as its queue says: $(sinfo --noheader)"

# What is run ----------------------------------------------------------------------------------------------------------

cd "$here/trial" || exit 1
EASE="data=world_ratings model=linear/ease tracker=none"
SLURM="hydra/launcher=slurm hydra.launcher.cpus_per_task=1 hydra.launcher.mem_gb=2 hydra.launcher.time_limit=10"
submissions() { ls outputs/sweeps/"$1"/cluster/*_submission.sh | wc -l; }
array() { squeue --noheader --states=all --name="$1" --format=%F | sort -n | head -1; }
queued() { squeue --noheader --array --name="$1" --format=%T | sort | uniq -c | xargs; }
trained() {  # trained NAME N: N of its runs have a checkpoint
  local n=0 run
  for run in outputs/sweeps/"$1"/jobs/*.run; do [ -s "outputs/runs/$(cat "$run")/checkpoints/last.ckpt" ] && n=$((n + 1)); done
  [ "$n" -ge "$2" ]
}
once() { ! told "$1" attempts | grep -q '[^ 01]'; }

an_array() {
  echo "1. an array of 4 jobs"
  local began=$SECONDS
  sweep $EASE sweep=array seed=1,2,3,4 $SLURM > array.out 2>&1
  holds "exit code 0" is $? 0
  holds "4 jobs finished at the first attempt" is "$(told array status) $(told array attempts)" "finished finished finished finished 1 1 1 1"
  holds "one submission, 4 runs" is "$(submissions array) $(runs_of array)" "1 4"
  holds "nothing is said of accounting that is not there" bash -c "! grep -i 'sacct\|accounting' array.out"
  echo "   $((SECONDS - began)) s"
}

out_of_memory() {
  echo "2. more memory than asked for, with one retry; and what sbatch refuses"
  sweep $EASE sweep=memory seed=5 $SLURM hydra.launcher.mem_gb=0.2 hydra.launcher.retries=1 > memory.out 2>&1
  holds "exit code 4" is $? 4
  holds "it is told as such" says "was out of memory: it needs more than hydra.launcher.mem_gb" memory.out
  holds "two attempts" is "$(told memory attempts)" 2
  sweep $EASE sweep=memory seed=5 $SLURM > memory.out 2>&1
  holds "with enough, the same command goes on" is "$? $(told memory status)" "0 finished"
  sweep $EASE sweep=refused seed=6 $SLURM hydra.launcher.partition=nowhere > refused.out 2>&1
  holds "an unknown partition: exit code 2, in Slurm's words" is "$? $(grep -c 'sbatch takes no such job: invalid partition specified: nowhere' refused.out)" "2 1"
}

signals() {
  echo "3. of 4 running jobs one is cancelled, one told to make room (USR2), one requeued by the operator"
  local words="$GRU trainer.max_epochs=60 seed=1,2,3,4" began=$SECONDS number
  sweep $words sweep=signals $SLURM > signals.out 2>&1 &
  local launcher=$!
  until_it 300 trained signals 4 || return
  number=$(array signals)
  scancel "${number}_0"
  scancel --signal=USR2 "${number}_1"
  scontrol requeue "${number}_2"
  wait $launcher
  holds "exit code 4: one was cancelled" is $? 4
  holds "it is told, and not tried again" says "was cancelled (scancel)" signals.out
  holds "the others finished" is "$(told signals status)" "failed finished finished finished"
  holds "each was submitted once" is "$(told signals attempts) $(submissions signals)" "1 1 1 1 1"
  holds "the requeued ones went on with their runs" is "$(told signals resumed)" "0 1 1 0"
  sweep $words sweep=signals $SLURM > again.out 2>&1
  holds "the same command goes on with the cancelled one: exit code 0" is "$? $(told signals resumed)" "0 1 1 1 0"
  holds "4 runs in all" is "$(runs_of signals)" 4
  sweep $words sweep=calm paths.output=calm hydra.launcher.n_jobs=2 > calm.out 2>&1
  holds "weights are those of runs that nobody disturbed, bit for bit" is "$(told signals weights)" "$(told calm weights calm)"
  echo "   $((SECONDS - began)) s"
}

launcher_killed() {
  echo "4. the launcher is killed while jobs run and wait; the same command again"
  local words="$GRU trainer.max_epochs=60 seed=5,6,7 sweep=killed" began=$SECONDS launcher
  "$PYTHON" -m marquee train -m $words $SLURM hydra.launcher.cpus_per_task=2 > killed.out 2>&1 &
  launcher=$!
  until_it 300 trained killed 1 || return
  kill -9 $launcher
  wait $launcher 2>/dev/null
  local state
  state=$(queued killed)
  sweep $words $SLURM hydra.launcher.cpus_per_task=2 > killed.out 2>&1
  holds "exit code 0 (Slurm's queue at the kill: $state)" is $? 0
  holds "nothing was submitted or run twice" is "$(submissions killed) $(runs_of killed) $(told killed resumed)" "1 3 0 0 0"
  holds "no second attempt at any (0: it had ended meanwhile)" once killed
  echo "   $((SECONDS - began)) s"
}

interrupted() {
  echo "5. Ctrl-C of the launcher: one job runs, one waits"
  local words="$GRU trainer.max_epochs=60 seed=8,9 sweep=stopped" launcher
  # A shell's background jobs ignore Ctrl-C; this one must not.
  "$PYTHON" -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); os.execv(sys.executable, [sys.executable, "-m", "marquee", *sys.argv[1:]])' \
    train -m $words $SLURM hydra.launcher.cpus_per_task=4 > stopped.out 2>&1 &
  launcher=$!
  until_it 300 trained stopped 1 || return
  sleep 2
  kill -INT $launcher
  wait $launcher
  holds "exit code 130" is $? 130
  holds "both are interrupted" is "$(told stopped status)" "interrupted interrupted"
  holds "nothing of it is left in the queue" is "$(queued stopped)" ""
  sweep $words $SLURM > stopped.out 2>&1
  holds "the same command goes on" is "$? $(told stopped status) $(told stopped resumed)" "0 finished finished 1 0"
}

time_limit() {
  echo "6. a job that needs more than its minute"
  local words="$GRU trainer.max_epochs=${LONG:-250} seed=1" began=$SECONDS
  sweep $words sweep=limit $SLURM hydra.launcher.time_limit=1 > limit.out 2>&1
  holds "exit code 0" is $? 0
  holds "it was requeued before its limit and went on ($(told limit resumed) times), submitted once" bash -c "[ $(told limit resumed) -ge 1 ] && [ $(told limit attempts) = 1 ]"
  sweep $words sweep=unlimited paths.output=calm > calm.out 2>&1
  holds "weights are those of an uninterrupted run" is "$(told limit weights)" "$(told unlimited weights calm)"
  echo "   $((SECONDS - began)) s"
}

distributed() {
  echo "7. a job of two processes (trainer=ddp)"
  sweep $GRU trainer=ddp trainer.max_epochs=3 sweep=ddp seed=1 $SLURM hydra.launcher.cpus_per_task=2 hydra.launcher.retries=0 > ddp.out 2>&1
  holds "exit code 0" is $? 0 || sed 's/^/    | /' ddp.out
}

quick() {
  echo "an array of 2 jobs; one is told to make room; the launcher is killed; the same command again"
  local words="$GRU trainer.max_epochs=${EPOCHS:-40} seed=1,2 sweep=quick" began=$SECONDS launcher
  "$PYTHON" -m marquee train -m $words $SLURM > quick.out 2>&1 &
  launcher=$!
  until_it 300 bash -c '[ -s "outputs/runs/$(cat outputs/sweeps/quick/jobs/0000.run)/checkpoints/last.ckpt" ]' || return
  scancel --signal=USR2 "$(array quick)_0"
  kill -9 $launcher
  wait $launcher 2>/dev/null
  sweep $words $SLURM > quick.out 2>&1
  holds "exit code 0" is $? 0
  holds "one submission, 2 runs; the one went on, the other was left alone" \
    is "$(submissions quick) $(runs_of quick) $(told quick resumed)" "1 2 1 0"
  holds "no second attempt at any (0: it had ended meanwhile)" once quick
  holds "nothing is said of accounting that is not there" bash -c "! grep -i 'sacct\|accounting' quick.out"
  echo "   $((SECONDS - began)) s"
}

scenarios="an_array out_of_memory signals launcher_killed interrupted time_limit distributed"
run "$@"
