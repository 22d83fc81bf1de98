//! The output of a run: progress while it goes on, then one table or one JSON object.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use crate::error::LoadError;
use crate::measure::process::MeasuredServer;

/// The figures of a run, in the order in which they were added. Names carry their unit at the end.
#[derive(Debug, Default)]
pub(crate) struct RunReport(Vec<(&'static str, Figure)>);

#[derive(Debug)]
enum Figure {
    One(Value),
    /// Several with a name each, in their order.
    Group(Vec<(String, Value)>),
}

impl RunReport {
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        self.0.push((name, Figure::One(value.into())));
    }

    pub(crate) fn count(&mut self, name: &'static str, value: u64) {
        self.0.push((name, Figure::One(value.into())));
    }

    /// A measured figure; left out if it couldn't be measured.
    pub(crate) fn figure(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.0.push((name, Figure::One(rounded(value).into())));
        }
    }

    /// Several measured figures under one name; those that couldn't be measured are left out.
    pub(crate) fn figures(&mut self, name: &'static str, figures: &[(&str, Option<f64>)]) {
        let measured =
            figures.iter().filter_map(|&(key, value)| Some((key.to_owned(), rounded(value?).into())));
        self.0.push((name, Figure::Group(measured.collect())));
    }

    /// The percentiles of a histogram in nanoseconds, given in microseconds; left out if it is empty.
    pub(crate) fn latency(&mut self, name: &'static str, all: &Histogram<u64>) {
        if all.is_empty() {
            return;
        }
        let quantiles = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
        let us = |ns: u64| Value::from(rounded(ns as f64 / 1000.0));
        let group = quantiles.map(|(name, quantile)| (name.to_owned(), us(all.value_at_quantile(quantile))));
        self.0.push((name, Figure::Group(group.into())));
    }

    /// Named counts, such as errors by status.
    pub(crate) fn counts(&mut self, name: &'static str, counts: &BTreeMap<String, u64>) {
        let group = counts.iter().map(|(key, &count)| (key.clone(), count.into()));
        self.0.push((name, Figure::Group(group.collect())));
    }

    /// Adds the server's memory at this moment.
    pub(crate) fn memory(&mut self, server: Option<MeasuredServer>) {
        let resident = server.and_then(|one| one.resident());
        self.figure("server_memory_mb", resident.map(|bytes| bytes as f64 / 1e6));
    }

    /// Says that the server went away, if it did.
    pub(crate) fn gone(&mut self, why: Option<&str>) {
        if let Some(why) = why {
            let what = "the server went away, and what it still had to do counts as undone";
            self.text("server_gone", &format!("{what}: {why}"));
        }
    }

    pub(crate) fn print(self, as_json: bool) -> Result<(), LoadError> {
        let mut out = io::stdout().lock();
        let text = if as_json { self.into_json() } else { self.into_table() };
        out.write_all(text.as_bytes()).map_err(LoadError::during("the report"))
    }

    fn into_json(self) -> String {
        format!("{}\n", Value::from(self.into_map()))
    }

    /// The report as JSON, for programs.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        let json = |figure| match figure {
            Figure::One(value) => value,
            Figure::Group(group) => Value::Object(group.into_iter().collect()),
        };
        self.0.into_iter().map(|(name, figure)| (name.to_owned(), json(figure))).collect()
    }

    fn into_table(self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.into_iter().map(|(name, figure)| format!("{name:<width$}  {}\n", plain(&figure))).collect()
    }
}

fn plain(figure: &Figure) -> String {
    match figure {
        Figure::One(Value::String(text)) => text.clone(),
        Figure::One(value) => value.to_string(),
        Figure::Group(group) if group.is_empty() => "none".to_owned(),
        Figure::Group(group) => {
            group.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join("   ")
        }
    }
}

/// Four digits are more than any measurement here is good for.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi((3 - value.abs().log10().floor() as i32).max(0));
    (value * scale).round() / scale
}

/// CPU time per unit of work, in microseconds.
pub(crate) fn us_per(cpu: Option<Duration>, work: u64) -> Option<f64> {
    (work > 0).then(|| cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / work as f64))?
}

/// A line on the terminal that replaces itself, a few times a second.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    const INTERVAL: Duration = Duration::from_millis(250);

    pub(crate) fn new() -> Progress {
        Progress { shown: None, terminal: io::stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.terminal && self.shown.is_none_or(|at| at.elapsed() >= Progress::INTERVAL) {
            self.shown = Some(Instant::now());
            // A terminal that went away is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{}", line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> RunReport {
        let mut all = Histogram::<u64>::new(3).unwrap();
        (1..=100).for_each(|us| all.record(us * 1000).unwrap());
        let mut report = RunReport::default();
        report.text("transport", "ws");
        report.count("messages", 3);
        report.figure("cpu_us", Some(1.234_567));
        report.figure("unmeasured", None);
        report.latency("latency_us", &all);
        report.figures("before", &[("rate", Some(2.5)), ("cpu_us", None)]);
        all.reset();
        report.latency("none_us", &all);
        report.counts("errors", &BTreeMap::new());
        report
    }

    #[test]
    fn json_has_every_figure_that_was_measured() {
        let json: Value = serde_json::from_str(&report().into_json()).unwrap();
        assert_eq!(json["transport"], "ws");
        assert_eq!(json["messages"], 3);
        assert_eq!(json["cpu_us"], 1.235);
        assert_eq!(json.get("unmeasured"), None);
        let p50 = json["latency_us"]["p50"].as_f64().unwrap();
        assert!((49.9..50.2).contains(&p50), "{p50}");
        assert_eq!(json["before"], serde_json::json!({"rate": 2.5}));
        assert_eq!(json["errors"], Value::Object(Map::new()));
    }

    #[test]
    fn the_table_is_aligned() {
        let table = report().into_table();
        assert!(table.starts_with("transport   ws\nmessages    3\ncpu_us      1.235\n"), "{table}");
        assert!(table.contains("\nlatency_us  p50 50.0"), "{table}");
        assert!(table.ends_with("errors      none\n"), "{table}");
    }

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(rounded(0.412_345), 0.4123);
        assert_eq!(rounded(123_456.7), 123_457.0);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn nothing_is_divided_by_no_work() {
        assert_eq!(us_per(Some(Duration::from_millis(1)), 0), None);
        assert_eq!(us_per(None, 1), None);
        assert_eq!(us_per(Some(Duration::from_millis(1)), 2000), Some(0.5));
    }
}
