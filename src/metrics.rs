//! Counts and times, and their text for Prometheus on a loopback address.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tar2vhd::Summary;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tracing::warn;

use crate::conversions::Conversions;

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

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    calls: Family<CallLabels, Counter>,
    conversions: Counter,
    failures: Counter,
    seconds: Histogram,
    compressed: Counter,
    layer: Counter,
    disk: Counter,
    running: Gauge,
    registry: Registry,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("tar2vhd");
        let calls = Family::default();
        registry.register("calls", "Calls by their status code", calls.clone());
        let counter = |registry: &mut Registry, name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let conversions = counter(&mut registry, "conversions", "Layers converted");
        let failures = counter(&mut registry, "conversion_failures", "Layers not converted");
        let bytes = |registry: &mut Registry, name, help| {
            let counter = Counter::default();
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
            counter
        };
        let compressed = bytes(
            &mut registry,
            "compressed",
            "Layers converted, as they came",
        );
        let layer = bytes(&mut registry, "layer", "Layers converted, uncompressed");
        let disk = bytes(
            &mut registry,
            "disk",
            "Disks made of layers, holes included",
        );
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
            seconds,
            compressed,
            layer,
            disk,
            running,
            registry,
        }
    }

    pub(crate) fn called(&self, call: Call, code: Code) {
        let code = format!("{code:?}");
        self.calls.get_or_create(&CallLabels { call, code }).inc();
    }

    pub(crate) fn converted(&self, result: &Result<Summary, Status>, seconds: f64) {
        match result {
            Ok(summary) => {
                self.conversions.inc();
                self.compressed.inc_by(summary.compressed.size);
                self.layer.inc_by(summary.layer.size);
                self.disk.inc_by(summary.disk.size);
                self.seconds.observe(seconds);
            }
            Err(_) => {
                self.failures.inc();
            }
        }
    }

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
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), service);
                // Who went away needs no answer.
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
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match metrics.text(conversions) {
            Ok(text) => (StatusCode::OK, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        },
        (&Method::GET, _) => (StatusCode::NOT_FOUND, String::new()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
