#!/bin/sh
# Follows a topic or pattern: prints each message's data on a line of its own, and goes on where it ended.
#   follow.sh http://127.0.0.1:8245/topics/orders state.txt          (needs curl and jq)
url=$1 state=$2
next=$(cat "$state" 2>/dev/null || echo '?after=earliest&wait=25')
while :; do
    # The page, and behind it two lines: the link to what comes next, and the seconds to wait.
    answer=$(curl -s --max-time 60 -w '\n%header{link}\nwait %header{retry-after}' "$url$next") || { sleep 1; continue; }
    page=$(printf '%s\n' "$answer" | sed -e '$d' | sed -e '$d')
    printf '%s' "$page" | jq -c '.messages[]?.data'
    link=$(printf '%s' "$answer" | sed -n 's/^<\(.*\)>; rel="next"$/\1/p')
    [ -n "$link" ] && next=$link && printf '%s' "$next" > "$state.new" && mv "$state.new" "$state"
    printf '%s' "$page" | jq -r 'select(.code == "gap") | "missed: \(.reason)"' >&2
    wait=$(printf '%s' "$answer" | tail -n 1 | tr -dc 0-9)
    sleep "${wait:-0}"
done
