//! Families of samples, and the two text formats that they are written in.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All series of one name. The name of a counter is without `_total`.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Count(u64),
    Signed(i64),
    Number(f64),
    /// `buckets` are bounds and the counts of all that is not above them.
    Histogram {
        sum: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

impl Family {
    pub(super) fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help, samples: Vec::new() }
    }

    pub(super) fn add(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push(Sample { labels, value });
    }

    /// With one series that has no label; with none where there is no value.
    pub(super) fn with(mut self, value: Option<Value>) -> Self {
        self.samples.extend(value.map(|value| Sample { labels: Vec::new(), value }));
        self
    }

    pub(super) fn of(mut self, samples: Vec<Sample>) -> Self {
        self.samples = samples;
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for sample in &self.samples {
            if sample.labels.is_empty() {
                self.encode_value(&sample.value, &mut metric)?;
            } else {
                self.encode_value(&sample.value, &mut metric.encode_family(&sample.labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_value(&self, value: &Value, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match (value, self.kind) {
            (Value::Count(count), Kind::Counter) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
            (Value::Count(count), _) => metric.encode_gauge(count),
            (Value::Signed(value), _) => metric.encode_gauge(value),
            (Value::Number(value), _) => metric.encode_gauge(value),
            (Value::Histogram { sum, count, buckets }, _) => {
                let buckets = apart(buckets, *count);
                metric.encode_histogram::<NoLabelSet>(*sum, *count, &buckets, None)
            }
        }
    }
}

/// Counts of what is up to each bound, as counts of what lies between the bounds; the last bound is infinite.
fn apart(buckets: &[(f64, u64)], count: u64) -> Vec<(f64, u64)> {
    let finite = buckets.iter().copied().filter(|bucket| bucket.0.is_finite());
    let mut below = 0;
    let mut between = |(bound, up_to): (f64, u64)| {
        let own = up_to.saturating_sub(below);
        below += own;
        (bound, own)
    };
    finite.chain([(f64::INFINITY, count)]).map(&mut between).collect()
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// As OpenMetrics 1.0 writes them.
pub(super) fn encode(families: Vec<Family>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    // A String takes everything: no error can come.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// OpenMetrics as the text format 0.0.4 writes it: a counter's family has the name of its series, and
/// there is no end mark.
pub(super) fn text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len() + 512);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(about) = line.strip_prefix("# HELP ") {
            let is_counter = lines.peek().is_some_and(|next| next.starts_with("# TYPE ") && next.ends_with(" counter"));
            let suffix = if is_counter { "_total" } else { "" };
            let (name, help) = about.split_once(' ').unwrap_or((about, ""));
            text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
        } else if let Some(name) = line.strip_prefix("# TYPE ").and_then(|about| about.strip_suffix(" counter")) {
            text.extend(["# TYPE ", name, "_total counter\n"]);
        } else if line != "# EOF" {
            text.extend([line, "\n"]);
        }
    }
    text
}
