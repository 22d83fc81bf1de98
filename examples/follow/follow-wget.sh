#!/bin/sh
# The same with wget: prints each message's data, and goes on where it ended.
#   follow-wget.sh http://127.0.0.1:8245/topics/orders state.txt     (needs wget and jq)
url=$1 state=$2
next=$(cat "$state" 2>/dev/null || echo '?after=earliest&wait=25')
while :; do
    page=$(wget -q -T 60 -t 1 -O - --content-on-error "$url$next" --save-headers)
    head=$(printf '%s' "$page" | tr -d '\r' | sed '/^$/q')
    body=$(printf '%s' "$page" | tr -d '\r' | sed '1,/^$/d')
    printf '%s' "$body" | jq -c '.messages[]?.data'
    link=$(printf '%s' "$head" | sed -n 's/^[Ll]ink: <\(.*\)>; rel="next"$/\1/p')
    [ -n "$link" ] && next=$link && printf '%s' "$next" > "$state.new" && mv "$state.new" "$state"
    printf '%s' "$body" | jq -r 'select(.code == "gap") | "missed: \(.reason)"' >&2
    # An answer without a link is none of ours, or the broker is away: a second, or what it asks for.
    wait=$(printf '%s' "$head" | sed -n 's/^[Rr]etry-[Aa]fter: //p')
    sleep "${wait:-$([ -n "$link" ] && echo 0 || echo 1)}"
done
