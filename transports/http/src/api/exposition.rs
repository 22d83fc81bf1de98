//! The text format of Prometheus, version 0.0.4, from OpenMetrics text: what scrapers take that don't ask for OpenMetrics.

use std::fmt::Write;

use tailwire_wire::ranges;

/// The media type of this format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The media type of OpenMetrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether `Accept` names OpenMetrics, and doesn't want text more.
pub(crate) fn takes_open_metrics<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut open_metrics, mut text) = (0, 0);
    for (name, quality) in accept.flat_map(ranges) {
        match name.to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => open_metrics = quality.max(open_metrics),
            "text/plain" => text = quality.max(text),
            _ => {}
        }
    }
    open_metrics > 0 && open_metrics >= text
}

/// Families are named as their samples are: counters by `_total`, infos by `_info`, which are gauges here. There are no
/// units, and no end.
pub(crate) fn text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|comment| {
            let (keyword, rest) = comment.split_once(' ')?;
            let (name, text) = rest.split_once(' ')?;
            Some((keyword, name, text))
        });
        match comment {
            Some(("HELP", name, text)) => help = Some((name, text)),
            Some(("TYPE", name, kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                // Writing to a string doesn't fail.
                if let Some((_, text)) = help.take().filter(|(own, _)| *own == name) {
                    let _ = writeln!(out, "# HELP {name}{suffix} {text}");
                }
                let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
            }
            _ if line.starts_with('#') => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples() {
        let open_metrics = "# HELP a Some.\n# TYPE a counter\na_total{b=\"c d\"} 1\n# HELP e_bytes Size.\n# TYPE e_bytes gauge\n# UNIT e_bytes bytes\ne_bytes 2\n# HELP i Who.\n# TYPE i info\ni_info{x=\"y\"} 1\n# TYPE h histogram\nh_sum 1\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let expect = "# HELP a_total Some.\n# TYPE a_total counter\na_total{b=\"c d\"} 1\n# HELP e_bytes Size.\n# TYPE e_bytes gauge\ne_bytes 2\n# HELP i_info Who.\n# TYPE i_info gauge\ni_info{x=\"y\"} 1\n# TYPE h histogram\nh_sum 1\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(text(open_metrics), expect);
    }

    #[test]
    fn open_metrics_is_for_those_who_name_it() {
        for (accept, expect) in [
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                true,
            ),
            ("Application/OpenMetrics-Text", true),
            ("application/openmetrics-text;q=0", false),
            ("text/plain;q=0.9,application/openmetrics-text;q=0.1", false),
            ("text/plain, application/openmetrics-text", true),
            ("*/*", false),
            ("text/plain", false),
        ] {
            assert_eq!(takes_open_metrics([accept].into_iter()), expect, "{accept}");
        }
        assert!(!takes_open_metrics([].into_iter()));
    }
}
