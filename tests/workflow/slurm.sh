#!/usr/bin/env bash
# A SLURM of one node for tests, on loopback, with nothing outside FOLDER and no privilege beyond root's:
#
#   tests/workflow/slurm.sh FOLDER     prints "ready"; stops at the end of its input (Ctrl-D), or when it is killed
#   source FOLDER/environment          in another shell: sinfo, sbatch, snakemake --profile slurm
#   tests/workflow/slurm.sh FOLDER MpiDefault=pmi2 TaskPlugin=task/affinity       the dialect of another cluster
#
# Needs Debian's slurm-wlm and munge. Ports are free ones and the munge socket is its own, so several can run side by side.
# The node claims 8 CPUs and 64 GB, whatever the machine has, and one GPU, /dev/null. No accounting.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [KEY=VALUE of slurm.conf]..." >&2; exit 2; }
for program in slurmctld slurmd munged sbatch; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurm-wlm munge" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "slurmd and munged have to be started by root" >&2; exit 2; }

mkdir -p "$1"
folder=$(cd "$1" && pwd)
mkdir -p "$folder"/{bin,state,spool}
chmod 755 "$folder"  # munged refuses a socket that others could replace
host=$(hostname -s)
read -r controller_port daemon_port < <(python3 - <<'PYTHON'
import socket

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))
PYTHON
)

cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$daemon_port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$folder/munge.sock,cred_expire=5
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,bf_interval=1
GresTypes=gpu
ReturnToService=2
MinJobAge=3000
OverTimeLimit=0
KillWait=2
NodeName=node NodeHostname=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:1
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE
PartitionName=gpu Nodes=ALL MaxTime=INFINITE
CONF
for setting in "${@:2}"; do
    grep -q "^${setting%%=*}=" "$folder/slurm.conf" || { echo "$setting: not a key of this slurm.conf" >&2; exit 2; }
    sed -i "s|^${setting%%=*}=.*|$setting|" "$folder/slurm.conf"
done
echo "NodeName=node Name=gpu File=/dev/null" >"$folder/gres.conf"

# the plugin's inner srun runs without SLURM_CONF
printf '#!/bin/sh\nSLURM_CONF=%q exec %q "$@"\n' "$folder/slurm.conf" "$(command -v srun)" >"$folder/bin/srun"
chmod 755 "$folder/bin/srun"
printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$folder/slurm.conf" "$folder/bin" >"$folder/environment"
export SLURM_CONF=$folder/slurm.conf

daemons=()
stop() {
    trap - EXIT
    scancel --state=PENDING --user=root 2>/dev/null || true
    scancel --signal=KILL --full --user=root 2>/dev/null || true
    for _ in $(seq 50); do
        [ -n "$(squeue --noheader 2>/dev/null)" ] || break
        sleep 0.1
    done
    for ((one = ${#daemons[@]} - 1; one >= 0; one--)); do
        kill "${daemons[one]}" 2>/dev/null || true
        wait "${daemons[one]}" 2>/dev/null || true
    done
    rm -f "$folder/munge.sock" "$folder/munge.sock.lock"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

(umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.sock" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" >"$folder/munged.log" 2>&1 </dev/null &
daemons+=($!)
slurmctld -D >"$folder/slurmctld.log" 2>&1 </dev/null &
daemons+=($!)
slurmd -D -N node >"$folder/slurmd.log" 2>&1 </dev/null &
daemons+=($!)

for _ in $(seq 300); do
    if [ "$(sinfo --noheader --format=%t --partition=cpu 2>/dev/null)" = idle ]; then
        echo ready
        # not `cat`, which would keep a signal waiting
        while read -r -t 3600 _ || [ $? -gt 128 ]; do :; done
        exit 0
    fi
    kill -0 "${daemons[@]}" 2>/dev/null || break
    sleep 0.1
done
echo "SLURM did not start:" >&2
tail -n 20 "$folder"/*.log >&2
exit 1
