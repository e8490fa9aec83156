#!/bin/bash
# A Slurm of two nodes, both of them this machine, for as long as stdin stays open, or while a command runs in it:
#
#   slurm.sh FOLDER [COMMAND …]
#
# FOLDER: absolute and without blanks, to be made or empty, in folders that everybody may enter. Says on stdout
# "ready" when jobs can be submitted, or "absent <why>". With SLURM_CONF=FOLDER/etc/slurm.conf, and FOLDER/bin first on
# PATH, its commands work. Logs are in FOLDER/log.
#
# Where root may, it lives in namespaces of its own, which end with it whatever happens, and says "ready inside": enter
# those of this script's child (`nsenter --target <pid> --mount --pid --net --uts --ipc`). Else it takes ports of this
# machine.
set -euo pipefail

folder=$1
nodes=2 cpus=8 memory_mb=16000 npus=2
export SLURM_CONF=$folder/etc/slurm.conf

absent() { echo "absent $*"; exit 0; }

for program in munged slurmctld slurmd sbatch srun; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null ||
        absent "$program is not installed (apt-get install --no-install-recommends slurmctld slurmd slurm-client munge)"
done
export PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" = 0 ] && [ -z "${SLURM_TEST_INSIDE:-}" ]; then
    own=(unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc)
    if "${own[@]}" true 2>/dev/null; then
        SLURM_TEST_INSIDE=inside exec "${own[@]}" "$0" "$@"
    fi
fi

mkdir -p "$folder"/{etc,log,state,munge,bin,hosts}
chmod 755 "$folder" "$folder/munge"
if [ -n "${SLURM_TEST_INSIDE:-}" ]; then
    port=16817
    ip link set lo up
    ip addr add 192.0.2.1/32 dev lo  # with 127.0.0.1 alone getaddrinfo finds no family to look for
    hostname slurmtest
    sed '1i 127.0.0.1 slurmtest' /etc/hosts > "$folder/hosts/hosts"
    mount --bind "$folder/hosts/hosts" /etc/hosts
    mkdir -p /etc/slurm
    mount --bind "$folder/etc" /etc/slurm
else
    port=$((20000 + $$ % 10000 * 4))
fi

user=$(id -un) host=$(hostname -s)
{
    cat <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
GresTypes=npu
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=2
SlurmctldTimeout=30
SlurmdTimeout=30
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobcomp.log
PartitionName=cpu Nodes=node1 Default=YES MaxTime=1000 DefaultTime=10 DefMemPerCPU=100 State=UP
PartitionName=npu Nodes=node2 MaxTime=1000 DefaultTime=10 DefMemPerCPU=100 State=UP
PartitionName=both Nodes=ALL MaxTime=1000 DefaultTime=10 DefMemPerCPU=100 State=UP
EOF
    for number in $(seq $nodes); do
        mkdir -p "$folder/spool/node$number"
        echo "NodeName=node$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=$cpus" \
            "Sockets=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=$memory_mb Gres=npu:$npus State=UNKNOWN"
    done
} > "$SLURM_CONF"
echo "Name=npu Count=$npus" > "$folder/etc/gres.conf"
# What Snakemake starts inside a job loses SLURM_CONF, and without /etc/slurm does not find the configuration.
printf '#!/bin/sh\nexport SLURM_CONF=%s\nexec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
chmod +x "$folder/bin/srun"

(umask 077 && head -c 1024 /dev/urandom > "$folder/munge/key" && chmod 400 "$folder/munge/key")
as=()
if [ "$(id -u)" = 0 ]; then
    chown -R munge:munge "$folder/munge"
    as=(setpriv --reuid=munge --regid=munge --clear-groups)
fi

stop() {
    scancel --user="$user" 2>/dev/null || true
    for file in "$folder"/slurmd.*.pid "$folder/slurmctld.pid" "$folder/munge/pid"; do
        [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
    done
    for process in /proc/[0-9]*; do  # step daemons outlive slurmd; they work in its folder for logs
        case "$(readlink "$process/exe" 2>/dev/null) $(readlink "$process/cwd" 2>/dev/null)" in
            *slurmstepd*" $folder"/*) kill -9 "${process#/proc/}" 2>/dev/null ;;
        esac
    done
    return 0
}
trap stop EXIT

failed() { # in namespaces that must not be; elsewhere another Slurm may be in the way, or a right may be missing
    tail -n 15 "$folder"/munge/log "$folder"/log/*.log >&2 || true
    [ -n "${SLURM_TEST_INSIDE:-}" ] && exit 1
    absent "$1 did not start on this machine itself, and only root with namespaces has another way; see above"
}

"${as[@]}" munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2 >&2 || failed munged
slurmctld -f "$SLURM_CONF" >&2 || failed slurmctld
for number in $(seq $nodes); do
    slurmd -f "$SLURM_CONF" -N "node$number" >&2 || failed slurmd
done

deadline=$((SECONDS + 60))
until [ "$(timeout 5 sinfo -h -N -p both -o %t 2>/dev/null | grep -cE '^(idle|mix)$')" = $nodes ] &&
    timeout 30 srun -t 1 --mem=10 true 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || failed Slurm
    sleep 0.2
done
echo "ready ${SLURM_TEST_INSIDE:-}"
shift
if [ $# = 0 ]; then
    cat > /dev/null
else
    PATH=$folder/bin:$PATH "$@"
fi
