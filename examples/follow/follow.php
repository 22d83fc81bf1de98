<?php
// Follows a topic or pattern: prints each message's data, and goes on where it ended.
//   php follow.php http://127.0.0.1:8245/topics/orders state.txt
[, $url, $state] = $argv;
$after = is_file($state) ? file_get_contents($state) : '?after=earliest&wait=25';
// ignore_errors: the body of a 410 (a gap) or 503 is wanted, too.
$context = stream_context_create(['http' => ['ignore_errors' => true, 'timeout' => 60]]);
while (true) {
    $page = @file_get_contents($url . $after, false, $context);
    $page = $page === false ? null : json_decode($page, true);
    if ($page === null) { // the broker is away, or the answer was cut off
        sleep(1);
        continue;
    }
    foreach ($page['messages'] ?? [] as $message) {
        echo json_encode($message['data']), "\n";
    }
    if (($page['code'] ?? '') === 'gap') {
        fwrite(STDERR, "missed: {$page['reason']}\n");
    }
    $wait = 0;
    foreach ($http_response_header as $header) {
        if (preg_match('/^link: <(.*)>; rel="next"$/i', $header, $found)) {
            $after = $found[1];
            file_put_contents("$state.new", $after);
            rename("$state.new", $state); // at once, or not at all
        } elseif (preg_match('/^retry-after: (\d+)$/i', $header, $found)) {
            $wait = (int) $found[1];
        }
    }
    sleep($wait);
}
