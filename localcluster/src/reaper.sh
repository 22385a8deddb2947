# Kills what its parent started and removes what its parent wrote, once the parent is gone.
# Reads lines: add PGID, drop PGID, dir PATH, undir PATH, cgroup NAME. The end of input means that the parent has died, however:
# the kernel closes the pipe even after SIGKILL.
# Whoever has no usual PATH leaves nothing behind either.
PATH="${PATH:+$PATH:}/usr/bin:/bin"
trap '' HUP INT QUIT TERM PIPE
groups=''
dirs=''
cgroups=''
newline='
'
without() { # without ITEM LIST: the LIST (one item a line) less ITEM
    printf '%s' "$2" | while IFS= read -r item; do
        [ "$item" = "$1" ] || printf '%s\n' "$item"
    done
}
while IFS= read -r line; do
    argument=${line#* }
    case $line in
    'add '*) groups="$groups$argument$newline" ;;
    'drop '*) groups=$(without "$argument" "$groups")$newline ;;
    'dir '*) dirs="$dirs$argument$newline" ;;
    'cgroup '*) cgroups="$cgroups$argument$newline" ;;
    'undir '*) dirs=$(without "$argument" "$dirs")$newline ;;
    esac
done
# Not 'kill -9 -- -GROUP': dash refuses that.
for group in $groups; do
    kill -s KILL -- "-$group" 2>/dev/null
done
# The kernel holds a control group until the last process in it is buried (10 s at most).
for cgroup in $cgroups; do
    tries=0
    while [ "$tries" -lt 100 ]; do
        left=$(find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" 2>/dev/null)
        [ -n "$left" ] || break
        for group in $left; do rmdir "$group" 2>/dev/null; done
        sleep 0.1
        tries=$((tries + 1))
    done
done
# A process that is just dying may still add a file while rm runs, so rm is tried until the folder is gone (5 s at most).
printf '%s' "$dirs" | while IFS= read -r dir; do
    [ -n "$dir" ] || continue
    tries=0
    while [ -e "$dir" ] && [ "$tries" -lt 50 ]; do
        rm -rf -- "$dir" 2>/dev/null && break
        sleep 0.1
        tries=$((tries + 1))
    done
done
