#!/bin/bash
# Marquee's searches in a real PostgreSQL: starts one in a temporary folder (its own user, a socket in that folder, no
# port), runs small searches of two processes that share a study, checks what must hold, stops everything.
# Exit code 0: all of it held.
#
#   scripts/try_postgres.sh            every scenario, some 4 minutes on two cores
#   scripts/try_postgres.sh --quick    what the suite does: two begin at once, one is killed and issued again
#
# Needs PostgreSQL's server (apt-get install postgresql), and for the Python in $PYTHON marquee[search] and a driver,
# pip install 'psycopg[binary]', which may also lie in a folder that PYTHONPATH names.
engine=postgres
source "$(dirname "$0")/trying.sh"
bin=$(for folder in $(command -v initdb | xargs -r dirname) /usr/lib/postgresql/*/bin; do [ -x "$folder/initdb" ] && echo "$folder"; done | tail -1)
[ -n "$bin" ] || { echo "no PostgreSQL here: apt-get install postgresql"; exit 1; }
"$PYTHON" -c 'import psycopg' 2>/dev/null || { echo "no driver here: pip install 'psycopg[binary]'"; exit 1; }

begin
as_owner() { "$@"; }
owner=$(id -un)
if [ "$(id -u)" = 0 ]; then  # the server refuses to be root
  owner=postgres
  as_owner() { (cd / && runuser -u postgres -- "$@"); }
fi

stop() {
  kill $(jobs -p) 2>/dev/null
  wait
  as_owner "$bin/pg_ctl" -D "$here/data" -m immediate stop >/dev/null 2>&1
}

# The engine -----------------------------------------------------------------------------------------------------------

mkdir "$here/data" "$here/socket"
chown "$owner" "$here/data" "$here/socket"
as_owner "$bin/initdb" -D "$here/data" --auth=trust --username="$owner" >/dev/null || exit 1
start() {
  as_owner "$bin/pg_ctl" -D "$here/data" -w -l "$here/data/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$here/socket' -c fsync=off" start >/dev/null
}
start || { cat "$here/data/log"; exit 1; }
query() { as_owner "$bin/psql" --host="$here/socket" --username="$owner" --dbname="$1" -F ' ' -Atqc "$2" | xargs; }
base() { query postgres "create database $1" >/dev/null; echo "postgresql+psycopg://$owner@/$1?host=$here/socket"; }
echo "$("$bin/postgres" --version), socket in $here"

# What is run ----------------------------------------------------------------------------------------------------------

cd "$here/trial" || exit 1
BPR="hydra/sweeper=optuna data=world_ratings model=mf/bpr model.dim=8 model.view.batch_size=8192 tracker=none
  callbacks=none hydra.sweeper.space=none hydra.sweeper.study=shared"
LR="optimizer.lr=tag(log,interval(1e-3,1e-1))"
# Two hosts are two folders of one study: each has a name of its own, or its own paths.output.
search() { timeout -k 5 600 "$PYTHON" -m marquee train -m $BPR "$@"; }   # search WORDS, as it is typed
states() { query "$1" "select count(*), state from trials t where not exists (select 1 from trial_user_attributes a
  where a.trial_id = t.trial_id and a.key = 'surplus') group by state order by state"; }
distinct() { query "$1" "select count(distinct p.param_value) from trial_params p join trials t using (trial_id)
  where t.state = 'COMPLETE'"; }
surplus() { query "$1" "select count(*) from trial_user_attributes where key = 'surplus'"; }
runs() { ls "$1"/runs | wc -l; }
trained() { [ "$(ls "$1"/runs/*/checkpoints/last.ckpt | wc -l)" -ge "$2" ]; }

two_at_once() {  # two_at_once TRIALS EPOCHS
  echo "two processes begin one study at the same moment in an empty data base; one is killed and issued again"
  local url began=$SECONDS one two first second
  url=$(base together)
  one=(sweep=one paths.output=one "hydra.sweeper.storage=\"$url\"" hydra.sweeper.n_trials=$1 trainer.max_epochs=$2 "$LR")
  two=(sweep=two paths.output=two "${one[@]:2}")
  # Begun directly: what kill -9 hits must be Marquee and not `timeout`.
  "$PYTHON" -m marquee train -m $BPR "${one[@]}" > one.out 2>&1 &
  first=$!
  search "${two[@]}" > two.out 2>&1 &
  second=$!
  until_it 300 trained one 1 || { cat one.out; return; }
  kill -9 $first
  wait $first 2>/dev/null
  wait $second
  holds "the other: exit code 0" is $? 0 || cat two.out
  holds "it asked for what was left" is "$(query together "select count(*) from trials where state = 'RUNNING'") $(query together "select count(*) from trials") of $1, $(surplus together) too many" \
    "1 $(($1 + $(surplus together))) of $1, $(surplus together) too many"
  holds "it tells of the trial elsewhere" says "1 running elsewhere" two.out
  search "${one[@]}" > one.out 2>&1
  holds "the killed one, issued again: exit code 0" is $? 0 || cat one.out
  holds "$1 trials in all, each complete, no two alike" is "$(states together), $(distinct together) different" "$1 COMPLETE, $1 different"
  holds "as many runs: what was killed went on" is "$(($(runs one) + $(runs two)))" "$1"
  echo "   $((SECONDS - began)) s"
}

a_grid() {
  echo "two processes share a grid of 6"
  local url first second began=$SECONDS words
  url=$(base grid)
  words=("hydra.sweeper.storage=\"$url\"" hydra.sweeper.sampler=grid trainer.max_epochs=1 optimizer.lr=0.01,0.02,0.03,0.04,0.05,0.06)
  search sweep=one paths.output=grid-one "${words[@]}" > one.out 2>&1 &
  first=$!
  search sweep=two paths.output=grid-two "${words[@]}" > two.out 2>&1 &
  second=$!
  wait $first
  holds "the first: exit code 0" is $? 0 || cat one.out
  wait $second
  holds "the second: exit code 0" is $? 0 || cat two.out
  holds "each point once ($(surplus grid) asked for at the same moment and given back)" is "$(states grid), $(distinct grid) different" "6 COMPLETE, 6 different"
  echo "   $((SECONDS - began)) s"
}

pruned() {
  echo "the worst of six step sizes is pruned by what the others have reported"
  local url
  url=$(base pruning)
  search sweep=pruned "hydra.sweeper.storage=\"$url\"" hydra.sweeper.sampler=grid hydra.sweeper.pruner=median \
    trainer.max_epochs=6 optimizer.lr=0.03,0.02,0.025,0.035,0.015,0.0000001 > pruned.out 2>&1
  holds "exit code 0, one pruned" is "$? $(states pruning)" "0 5 COMPLETE 1 PRUNED"
}

server_restarts() {
  echo "the server restarts while a trial runs; then it is gone while one runs"
  local url words searching
  url=$(base restart)
  words=(sweep=restart paths.output=restart "hydra.sweeper.storage=\"$url\"" hydra.sweeper.n_trials=3 trainer.max_epochs=20 "$LR")
  search "${words[@]}" > restart.out 2>&1 &
  searching=$!
  until_it 300 trained restart 1 || return
  as_owner "$bin/pg_ctl" -D "$here/data" -m fast stop >/dev/null
  start
  until_it 300 trained restart 2 || { cat restart.out; return; }
  as_owner "$bin/pg_ctl" -D "$here/data" -m fast stop >/dev/null
  wait $searching
  holds "gone: exit code 4" is $? 4
  holds "it says so, without a traceback" bash -c "grep -q 'hydra.sweeper.storage does not answer' restart.out && ! grep -q Traceback restart.out" || tail -5 restart.out
  start
  search "${words[@]}" > restart.out 2>&1
  holds "back: the same command goes on" is "$? $(states restart), $(runs restart) runs" "0 3 COMPLETE, 3 runs"
}

quick() { two_at_once 4 12; }
many() { two_at_once 8 20; }
scenarios="many a_grid pruned server_restarts"
run "$@"
