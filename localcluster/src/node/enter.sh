# Makes the inside of the new namespaces, as their first process, and becomes the program: $0 is a folder for what a node
# writes, the rest the program and its arguments.
set -eu
# Shared among our own: kubelet hands mounts on to containers.
mount --make-rshared /
# Paths that the node's programs have built in. Outside, they stay as they are.
mkdir "$0/lib" "$0/log" "$0/sys"
mount --bind "$0/lib" /var/lib
mount --bind "$0/log" /var/log
mount -t tmpfs -o mode=755 tmpfs /run
# kubelet sets these, and there is one of each for the whole machine: it shall set a copy.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    [ -e "/proc/sys/$setting" ] || continue
    mkdir -p "$0/sys/${setting%/*}"
    cat "/proc/sys/$setting" > "$0/sys/$setting"
    mount --bind "$0/sys/$setting" "/proc/sys/$setting"
done
# kubelet wants the one that it puts pods below, in each hierarchy (there is only one in version 2); it makes the rest.
# In version 2 it refuses one without controllers, and a machine where no container has run yet hands none down. One by
# one, as with all in one line a single one that cannot be had refuses the others; what is missing kubelet says.
if [ -e /sys/fs/cgroup/cgroup.subtree_control ]; then
    for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$controller" 2> /dev/null > /sys/fs/cgroup/cgroup.subtree_control || :
    done
fi
if [ -e /sys/fs/cgroup/cgroup.procs ]; then set -- /sys/fs/cgroup -- "$@"; else set -- /sys/fs/cgroup/* -- "$@"; fi
while [ "$1" != -- ]; do
    # Some are links to others.
    if [ -e "$1/cgroup.procs" ]; then mkdir -p "$1/${0##*/}"; fi
    shift
done
shift
# Nobody here resolves names; without this, each try would wait for a server of the machine's network.
if [ -e /etc/resolv.conf ]; then
    : > "$0/resolv.conf"
    mount --bind "$0/resolv.conf" /etc/resolv.conf
fi
ip link set lo up
# Nobody answers behind it; but a host has an interface with an address, and its default route is the way that a
# connection to a ClusterIP seems to take before kube-proxy turns it.
ip link add uplink type veth peer name nowhere
ip link set nowhere up
ip link set uplink up
ip address add "$LOCALCLUSTER_NODE_ADDRESS/24" dev uplink
ip route add default dev uplink
echo 1 > /proc/sys/net/ipv4/ip_forward
exec "$@"
