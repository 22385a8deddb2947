# Runs a program until it ends or the input does. The kernel closes the input's other end when the demo is gone, by
# whatever death, so that no controller is left behind.
exec 3<&0
"$0" "$@" </dev/null 3<&- &
program=$!
{ read -r _ <&3; kill -9 "$program"; } &
reader=$!
wait "$program"
status=$?
kill "$reader"
exit "$status"
