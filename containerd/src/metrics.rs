//! Counts and times, and their text for Prometheus on a loopback address.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tar2vhd::Summary;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tracing::warn;

use crate::conversions::Conversions;
use crate::platform;

/// A call of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Apply,
    Diff,
    Prepare,
    View,
    Mounts,
    Commit,
    Remove,
    Stat,
    Update,
    List,
    Usage,
    Cleanup,
}

impl Call {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Diff => "Diff",
            Self::Prepare => "Prepare",
            Self::View => "View",
            Self::Mounts => "Mounts",
            Self::Commit => "Commit",
            Self::Remove => "Remove",
            Self::Stat => "Stat",
            Self::Update => "Update",
            Self::List => "List",
            Self::Usage => "Usage",
            Self::Cleanup => "Cleanup",
        }
    }
}

impl EncodeLabelValue for Call {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: Call,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: String,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    calls: Family<CallLabels, Counter>,
    conversions: Counter,
    failures: Counter,
    cancelled: Counter,
    seconds: Histogram,
    compressed: Counter,
    layer: Counter,
    disk: Counter,
    running: Gauge,
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut whole = Registry::default();
        whole.register_collector(Box::new(ProcessMetrics));
        let registry = whole.sub_registry_with_prefix("tar2vhd");
        let build = Family::<BuildLabels, Gauge>::default();
        registry.register(
            "build_info",
            "1, with the version of the plugin",
            build.clone(),
        );
        let version = env!("CARGO_PKG_VERSION").to_owned();
        build.get_or_create(&BuildLabels { version }).set(1);
        let calls = Family::default();
        registry.register("calls", "Calls by their status code", calls.clone());
        let counter = |registry: &mut Registry, name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let conversions = counter(registry, "conversions", "Layers converted");
        let failures = counter(registry, "conversion_failures", "Layers not converted");
        let cancelled = counter(
            registry,
            "conversions_cancelled",
            "Conversions that were ended because the caller or the snapshot went away",
        );
        let bytes = |registry: &mut Registry, name, help| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let compressed = bytes(registry, "compressed", "Layers converted, as they came");
        let layer = bytes(registry, "layer", "Layers converted, uncompressed");
        let disk = bytes(registry, "disk", "Disks made of layers, holes included");
        // From 10 ms to a good quarter of an hour.
        let seconds = Histogram::new(exponential_buckets(0.01, 2.0, 17));
        registry.register_with_unit(
            "conversion",
            "Time of a conversion, waiting for a place not included",
            Unit::Seconds,
            seconds.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "conversions_running",
            "Conversions that run or wait for a place",
            running.clone(),
        );
        Self {
            calls,
            conversions,
            failures,
            cancelled,
            seconds,
            compressed,
            layer,
            disk,
            running,
            registry: whole,
        }
    }

    pub(crate) fn called(&self, call: Call, code: Code) {
        let code = format!("{code:?}");
        self.calls.get_or_create(&CallLabels { call, code }).inc();
    }

    /// Counts a conversion that has ended; `stopped` if somebody ended it.
    pub(crate) fn converted(&self, result: &Result<Summary, Status>, stopped: bool, seconds: f64) {
        match result {
            Ok(summary) => {
                self.conversions.inc();
                self.compressed.inc_by(summary.compressed.size);
                self.layer.inc_by(summary.layer.size);
                self.disk.inc_by(summary.disk.size);
                self.seconds.observe(seconds);
            }
            Err(_) if stopped => {
                self.cancelled.inc();
            }
            Err(_) => {
                self.failures.inc();
            }
        }
    }

    /// All metrics, as OpenMetrics.
    fn text(&self, conversions: &Conversions) -> Result<String, fmt::Error> {
        self.running
            .set(i64::try_from(conversions.len()).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Answers `GET /metrics`, until the process ends.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    conversions: Conversions,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    warn!(error = %e, "the metrics cannot be asked for");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let (metrics, conversions) = (Arc::clone(&metrics), conversions.clone());
            let service = service_fn(move |request: http::Request<_>| {
                let response = answer(&request, &metrics, &conversions);
                async move { Ok::<_, Infallible>(response) }
            });
            tokio::spawn(async move {
                let connection = http1::Builder::new()
                    // hyper panics on a clock before 1970, and nobody needs it here.
                    .auto_date_header(false)
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                // A client that went away needs no answer.
                let _ = connection.await;
            });
        }
    });
    Ok(address)
}

fn answer(
    request: &http::Request<hyper::body::Incoming>,
    metrics: &Metrics,
    conversions: &Conversions,
) -> Response<String> {
    // hyper leaves the body out where HEAD asks.
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, text) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new()),
        "/metrics" => {
            let accepted = request.headers().get_all(header::ACCEPT).iter();
            let open = accepted
                .filter_map(|value| value.to_str().ok())
                .any(|value| value.contains("application/openmetrics-text"));
            match metrics.text(conversions) {
                Ok(text) if open => (StatusCode::OK, OPEN_METRICS, text),
                Ok(text) => (StatusCode::OK, PLAIN, plain(&text)),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, String::new()),
            }
        }
        _ => (StatusCode::NOT_FOUND, PLAIN, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if !is_read {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// The text format of Prometheus, which knows neither units nor an end, and has the whole name of
/// a counter in front of it.
fn plain(open: &str) -> String {
    let mut counters = BTreeSet::new();
    for line in open.lines() {
        if let ["#", "TYPE", name, "counter"] = line.split(' ').collect::<Vec<_>>()[..] {
            counters.insert(name);
        }
    }
    let mut text = String::with_capacity(open.len());
    for line in open.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "UNIT", ..] | ["#", "EOF"] => {}
            ["#", keyword, name, rest] if counters.contains(name) => {
                text += &format!("# {keyword} {name}_total {rest}\n");
            }
            _ => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

/// Figures of the process, under the names that all exporters use.
#[derive(Debug)]
struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(process) = platform::process() else {
            return Ok(());
        };
        let cpu = ConstCounter::new(process.cpu_seconds);
        let named = encoder.encode_descriptor(
            "process_cpu",
            "User and system CPU time",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?;
        cpu.encode(named)?;
        let gauges = [
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                process.open_descriptors,
            ),
            (
                "process_max_fds",
                "The most file descriptors",
                None,
                process.max_descriptors,
            ),
            (
                "process_virtual_memory",
                "Virtual memory",
                Some(Unit::Bytes),
                process.virtual_memory,
            ),
            (
                "process_resident_memory",
                "Resident memory",
                Some(Unit::Bytes),
                process.resident_memory,
            ),
            (
                "process_start_time",
                "The start, since 1970",
                Some(Unit::Seconds),
                process.start_seconds,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            let named =
                encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
            gauge.encode(named)?;
        }
        Ok(())
    }
}
