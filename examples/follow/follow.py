#!/usr/bin/env python3
"""Follows a topic or pattern with Python's standard library alone: prints each message's data, and goes on where it ended.

    follow.py http://127.0.0.1:8245/topics/orders state.txt
"""

import json
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

url, state = sys.argv[1], Path(sys.argv[2])
after = state.read_text() if state.exists() else "?after=earliest&wait=25"
while True:
    try:
        answer = urllib.request.urlopen(url + after, timeout=60)
    except urllib.error.HTTPError as error:  # 410 is a gap, 503 a broker that is going away
        answer = error
    except OSError:
        time.sleep(1)
        continue
    try:
        page = json.load(answer)
    except (OSError, ValueError):  # cut off in the middle
        time.sleep(1)
        continue
    for message in page.get("messages", []):
        print(json.dumps(message["data"]), flush=True)
    if page.get("code") == "gap":
        print("missed:", page["reason"], file=sys.stderr, flush=True)
    link = re.search('<(.*)>; rel="next"', answer.headers.get("Link") or "")
    if link:
        after = link[1]
        new = state.with_name(state.name + ".new")
        new.write_text(after)
        new.replace(state)  # at once, or not at all
    time.sleep(int(answer.headers.get("Retry-After") or 0))
