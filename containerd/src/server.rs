//! The process: recovery, services on one address, an orderly end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, header};
use tokio::sync::Notify;
use tonic::transport::Server;
use tower::util::MapResponseLayer;
use tracing::{info, info_span, warn};

use crate::api::diff::v1::diff_server::DiffServer;
use crate::api::introspection::v1::introspection_server::IntrospectionServer;
use crate::api::snapshots::v1::snapshots_server::SnapshotsServer;
use crate::config::Config;
use crate::content::Content;
use crate::conversions::Conversions;
use crate::diff::{DiffService, Limits};
use crate::introspection::IntrospectionService;
use crate::layout::Layout;
use crate::metrics::{self, Metrics};
use crate::platform::{self, Ending, Listening, State};
use crate::recovery;
use crate::scratch::Scratches;
use crate::snapshots::SnapshotService;

/// How long conversions that were cancelled have to end.
const CANCELLED: Duration = Duration::from_secs(10);
/// The most descriptors that conversions are given; more than a semaphore of any system needs.
const MOST_DESCRIPTORS: u32 = 1 << 20;
/// The most bytes of a request, as containerd's own server has it.
const MAX_MESSAGE: usize = 16 << 20;

/// Serves until the process is asked to end.
pub(crate) async fn serve(config: Config) -> io::Result<()> {
    let mut ending = Ending::new()?;
    let layout = Layout::create(&config.root)?;
    // From here on no second process has this root.
    let _lock = layout.lock().map_err(|status| recovery::as_io(&status))?;
    let store = recovery::start(&layout).map_err(|status| recovery::as_io(&status))?;
    layout.keep_reserve();
    let store = Arc::new(store);
    let metrics = Arc::new(Metrics::new());
    // The rest is for connections, the store, and calls other than Apply.
    let descriptors = platform::raise_descriptors() / 4 * 3;
    let descriptors = u32::try_from(descriptors)
        .unwrap_or(u32::MAX)
        .min(MOST_DESCRIPTORS);
    let conversions = Conversions::new(config.max_concurrent, descriptors);
    let scratches = Scratches::new(&config.scratch_locations)?;
    let content = match &config.content_root {
        Some(root) => Content::directory(root)?,
        None => Content::containerd(config.containerd_address.clone()),
    };

    let (health, health_service) = tonic_health::server::health_reporter();
    let snapshots = SnapshotsServer::new(SnapshotService::new(
        Arc::clone(&store),
        layout.clone(),
        scratches,
        conversions.clone(),
        Arc::clone(&metrics),
    ))
    .max_decoding_message_size(MAX_MESSAGE);
    let introspection =
        IntrospectionService::new(layout.root(), &config.snapshotter, &config.differ);
    let diff = DiffServer::new(DiffService {
        store,
        layout,
        conversions: conversions.clone(),
        content,
        limits: Limits {
            max_layer_size: config.max_layer_size,
            max_entries: config.max_entries,
            stall: config.stall,
            threads: config.threads,
        },
        metrics: Arc::clone(&metrics),
    })
    .max_decoding_message_size(MAX_MESSAGE);
    health
        .set_serving::<SnapshotsServer<SnapshotService>>()
        .await;
    health.set_serving::<DiffServer<DiffService>>().await;

    if let Some(address) = config.metrics {
        let address = metrics::serve(address, metrics, conversions.clone())
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("metrics at {address}: {e}")))?;
        info!(%address, "metrics are told");
    }
    let Listening {
        incoming,
        address,
        socket,
    } = platform::listen(&config.address)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", config.address)))?;
    let requests = AtomicU64::new(0);
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let server = Server::builder()
        .trace_fn(move |request| {
            let id = requests.fetch_add(1, Ordering::Relaxed) + 1;
            let path = request.uri().path();
            let call = path.rsplit('/').next().unwrap_or_default();
            info_span!("request", id, call)
        })
        .layer(MapResponseLayer::new(dated))
        .add_service(snapshots)
        .add_service(diff)
        .add_service(IntrospectionServer::new(introspection))
        .add_service(health_service)
        .serve_with_incoming_shutdown(incoming, async move { stopped.notified().await });
    let server = tokio::spawn(server);
    info!(
        root = %config.root.display(), address, descriptors,
        max_concurrent = config.max_concurrent, version = env!("CARGO_PKG_VERSION"), "ready"
    );
    platform::notify(State::Ready);

    let mut server = server;
    tokio::select! {
        served = &mut server => return ended(served),
        () = ending.asked() => {}
    }
    info!(conversions = conversions.len(), "shutting down");
    platform::notify(State::Stopping);
    health
        .set_not_serving::<SnapshotsServer<SnapshotService>>()
        .await;
    health.set_not_serving::<DiffServer<DiffService>>().await;
    // No new connections and calls; those that run go on.
    stop.notify_one();
    if let Some(socket) = socket {
        socket.remove();
    }
    tokio::select! {
        served = &mut server => return ended(served),
        () = tokio::time::sleep(config.grace) => {}
        () = ending.asked() => {}
    }
    let cancelled = conversions.cancel_all();
    if cancelled > 0 {
        warn!(cancelled, "conversions are cancelled");
    }
    match tokio::time::timeout(CANCELLED, &mut server).await {
        Ok(served) => ended(served),
        Err(_) => {
            warn!("calls are still open; they are cut off");
            Ok(())
        }
    }
}

/// Dates a response where hyper could not: it panics on a clock before 1970.
fn dated<B>(mut response: http::Response<B>) -> http::Response<B> {
    if SystemTime::now() < UNIX_EPOCH {
        let epoch = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
        response.headers_mut().insert(header::DATE, epoch);
    }
    response
}

fn ended(
    served: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> io::Result<()> {
    served.map_err(io::Error::other)?.map_err(io::Error::other)
}
