//! The diff service: layers to `layer.vhd`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tar2vhd::lower::LowerDisks;
use tar2vhd::{Compression, Error, ErrorKind, Options, Summary};
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};
use tracing::{Span, info, warn};

use crate::api::diff::v1::diff_server::Diff;
use crate::api::diff::v1::{ApplyRequest, ApplyResponse, DiffRequest, DiffResponse};
use crate::api::types::{Descriptor, Mount};
use crate::content::{Blob, Content, NAMESPACE};
use crate::conversions::{Conversion, Conversions, StopOnDrop, shutting_down};
use crate::digest::BlobDigest;
use crate::files::failed;
use crate::layout::Layout;
use crate::metrics::{Call, Metrics};
use crate::platform;
use crate::rpc::{blocking, traced};
use crate::snapshots::{LCOW_LAYER, mount};
use crate::store::{Kind, Snapshot, Store};

/// The media type of an uncompressed layer.
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of a layer that registries must not store.
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// How often a conversion tells how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// The most warnings of a layer that are logged; after them comes their number.
const WARNINGS: usize = 10;

/// The limits of conversions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_layer_size: u64,
    pub(crate) max_entries: u64,
    pub(crate) threads: usize,
    /// How long a stream of containerd's may stand still.
    pub(crate) stall: Duration,
}

/// The service.
#[derive(Debug)]
pub(crate) struct DiffService {
    pub(crate) store: Arc<Store>,
    pub(crate) layout: Layout,
    pub(crate) conversions: Conversions,
    pub(crate) content: Content,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
}

/// The compression a media type speaks of; `None` where the bytes tell. The types are those that
/// containerd's own differs take, also of layers that are not to be distributed.
fn compression(media_type: &str) -> Result<Option<Compression>, Status> {
    let (base, suffix) = media_type.split_once('+').unwrap_or((media_type, ""));
    match (base, suffix) {
        (LAYER_TYPE | NONDISTRIBUTABLE, "") => Ok(Some(Compression::None)),
        (LAYER_TYPE | NONDISTRIBUTABLE, "gzip") => Ok(Some(Compression::Gzip)),
        (LAYER_TYPE | NONDISTRIBUTABLE, "zstd") => Ok(Some(Compression::Zstd)),
        (
            "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
            "",
        ) => Ok(None),
        (_, suffix) if suffix.split('+').any(|suffix| suffix == "encrypted") => {
            Err(Status::invalid_argument(format!(
                "a layer of the media type {media_type:?} is encrypted, and containerd gives no \
                 keys to a plugin: decrypt the image first"
            )))
        }
        // Not Unimplemented: the next differ in the list could do nothing with the mount.
        _ => Err(Status::invalid_argument(format!(
            "a layer of the media type {media_type:?} cannot be converted"
        ))),
    }
}

/// The one mount that a layer is applied to.
fn lcow_mount(mounts: &[Mount]) -> Result<&Mount, Status> {
    if let Some(other) = mounts.iter().find(|mount| mount.r#type != LCOW_LAYER) {
        return Err(Status::unimplemented(format!(
            "mounts of the type {:?} are another differ's",
            other.r#type
        )));
    }
    match mounts {
        [mount] => Ok(mount),
        _ => Err(Status::invalid_argument(format!(
            "{} mounts; a layer is converted into one",
            mounts.len()
        ))),
    }
}

/// A layer to convert, all of its description checked.
struct Job {
    digest: BlobDigest,
    size: Option<u64>,
    compression: Option<Compression>,
    layer: PathBuf,
    parents: Vec<PathBuf>,
}

impl DiffService {
    async fn convert(&self, request: Request<ApplyRequest>) -> Result<ApplyResponse, Status> {
        let namespace = request
            .metadata()
            .get(NAMESPACE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let request = request.into_inner();
        let mount = lcow_mount(&request.mounts)?.clone();
        let descriptor = request
            .diff
            .ok_or_else(|| Status::invalid_argument("no descriptor of a layer"))?;
        let id = self.layout.id_of(&mount.source).ok_or_else(|| {
            Status::invalid_argument(format!(
                "{:?} is not the directory of a snapshot",
                mount.source
            ))
        })?;
        // First, so that the snapshot is not committed once it was looked at.
        let claim = self.conversions.claim(id)?;
        let (snapshot, job) = self.job(id, mount, &descriptor).await?;
        let conversion = claim.start(job.parents.len()).await?;

        let namespace = || namespace.map_or_else(|| namespace_of(&snapshot.key), Ok);
        let blob = self
            .content
            .open(&job.digest, job.size, self.limits.stall, namespace)
            .await?;
        let started = Instant::now();
        info!(
            digest = %job.digest, size = descriptor.size, media_type = descriptor.media_type,
            key = snapshot.key, id = snapshot.record.id, parents = job.parents.len(),
            "converting a layer"
        );
        let summary = self.run(job, blob, conversion).await?;
        let seconds = started.elapsed().as_secs_f64();
        // The snapshot may have been removed meanwhile.
        let (store, layout) = (Arc::clone(&self.store), self.layout.clone());
        let diff_id = summary.layer.digest.to_string();
        blocking(move || {
            let snapshot = store.by_id(id)?;
            layout.record_layer(&snapshot, diff_id)
        })
        .await?;
        self.log_summary(&summary, seconds);
        Ok(ApplyResponse {
            applied: Some(Descriptor {
                media_type: LAYER_TYPE.to_owned(),
                digest: summary.layer.digest.to_string(),
                size: summary.layer.size.cast_signed(),
                annotations: Default::default(),
            }),
        })
    }

    /// Holds the request against what is known of the snapshot.
    async fn job(
        &self,
        id: u64,
        mount: Mount,
        descriptor: &Descriptor,
    ) -> Result<(Snapshot, Job), Status> {
        let compression = compression(&descriptor.media_type)?;
        let digest = descriptor.digest.parse().map_err(|e| {
            Status::invalid_argument(format!("the digest {:?}: {e}", descriptor.digest))
        })?;
        let size = u64::try_from(descriptor.size)
            .map_err(|_| Status::invalid_argument("a layer of negative size"))?;
        let (store, layout) = (Arc::clone(&self.store), self.layout.clone());
        blocking(move || {
            let snapshot = store.by_id(id)?;
            if snapshot.record.kind != Kind::Active {
                return Err(Status::failed_precondition(format!(
                    "the snapshot {:?} is not active",
                    snapshot.key
                )));
            }
            if mount != self::mount(&layout, &snapshot) {
                return Err(Status::invalid_argument(format!(
                    "the mount is not that of the snapshot {:?}",
                    snapshot.key
                )));
            }
            let job = Job {
                digest,
                // 0 is for "unknown".
                size: (size > 0).then_some(size),
                compression,
                layer: layout.layer(id)?,
                parents: layout.layers(&snapshot.parents)?,
            };
            Ok((snapshot, job))
        })
        .await
    }

    /// Converts on a thread of its own, cancelled when this future is dropped.
    async fn run(&self, job: Job, blob: Blob, conversion: Conversion) -> Result<Summary, Status> {
        let watch = blob.watch();
        let stop = conversion.handle();
        let _stop = StopOnDrop(stop.clone());
        let read = Arc::new(AtomicU64::new(0));
        let limits = self.limits;
        let (sender, mut receiver) = oneshot::channel();
        let span = Span::current();
        let progress = Arc::clone(&read);
        let metrics = Arc::clone(&self.metrics);
        std::thread::Builder::new()
            .name("convert".into())
            .spawn(move || {
                let _entered = span.entered();
                let started = Instant::now();
                let stopped = conversion.handle();
                let converted = convert(&job, blob, limits, &conversion, progress);
                let seconds = started.elapsed().as_secs_f64();
                metrics.converted(&converted, stopped.is_stopped(), seconds);
                // The place is free before anybody hears of the end.
                drop(conversion);
                if sender.send(converted).is_err() {
                    info!(seconds, "a conversion that nobody waits for has ended");
                }
            })
            .map_err(|e| Status::resource_exhausted(format!("no thread to convert on: {e}")))?;

        let mut ticks = tokio::time::interval(PROGRESS);
        ticks.tick().await;
        let converted = loop {
            tokio::select! {
                converted = &mut receiver => break converted,
                // The thread may be waiting for bytes.
                () = stop.stopped() => watch.end(),
                _ = ticks.tick() => {
                    info!(bytes = read.load(Ordering::Relaxed), "still converting");
                }
            }
        };
        let converted = converted.map_err(|_| Status::internal("the conversion broke down"))?;
        converted.map_err(|status| match watch.failure() {
            _ if stop.is_stopped() && self.conversions.is_shutting_down() => shutting_down(),
            _ if stop.is_stopped() => Status::cancelled("the snapshot is being removed"),
            Some(cause) => content_failure(&cause),
            None => status,
        })
    }

    fn log_summary(&self, summary: &Summary, seconds: f64) {
        let mut kinds = BTreeMap::<_, u64>::new();
        for warning in &summary.warnings {
            *kinds.entry(warning.kind.as_str()).or_default() += 1;
        }
        for warning in summary.warnings.iter().take(WARNINGS) {
            warn!(kind = warning.kind.as_str(), "{warning}");
        }
        info!(
            diff_id = %summary.layer.digest,
            layer_size = summary.layer.size,
            disk_size = summary.disk.size,
            entries = summary.entries.tar_entries,
            warnings = ?kinds,
            seconds,
            "a layer is converted"
        );
    }
}

fn convert(
    job: &Job,
    mut blob: Blob,
    limits: Limits,
    conversion: &Conversion,
    read: Arc<AtomicU64>,
) -> Result<Summary, Status> {
    let mut options = Options::new()
        .max_size(limits.max_layer_size)
        .max_entries(limits.max_entries)
        .threads(limits.threads)
        .allow_empty(true)
        .bottom_layer(job.parents.is_empty())
        .cancel(conversion.handle().token())
        .progress(move |progress| read.store(progress.input_bytes, Ordering::Relaxed));
    // The others are held against the bytes where those are read.
    if let BlobDigest::Sha256(digest) = &job.digest {
        options = options.expect_digest(*digest);
    }
    if let Some(size) = job.size {
        options = options.expect_size(size);
    }
    if let Some(compression) = job.compression {
        options = options.compression(compression);
    }
    if !job.parents.is_empty() {
        let parents = LowerDisks::open(&job.parents);
        options = options.lower_layers(parents.map_err(|e| {
            let message = format!("a layer below cannot be read: {e:#}");
            match is_out_of_descriptors(&e) {
                true => Status::unavailable(message),
                false => Status::failed_precondition(message),
            }
        })?);
    }
    let converted = tar2vhd::convert_file(&mut blob, &job.layer, &options);
    let summary = converted.map_err(|e| status_of(&e))?;
    blob.drain()
        .and_then(|()| platform::grant_virtual_machines(&job.layer))
        .map_err(|e| {
            if let Err(e) = std::fs::remove_file(&job.layer) {
                warn!(path = %job.layer.display(), error = %e, "a layer cannot be removed");
            }
            failed(&job.layer, e)
        })?;
    Ok(summary)
}

/// Whether what went wrong is that this process or the system has too many files open.
fn is_out_of_descriptors(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return platform::is_out_of_descriptors(error);
        }
        cause = error.source();
    }
    false
}

/// Keys come from containerd as `namespace/number/key`; some releases do not send the
/// namespace with a request to a plugin.
fn namespace_of(key: &str) -> Result<String, Status> {
    let mut parts = key.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(namespace), Some(number), Some(_))
            if !namespace.is_empty() && number.parse::<u64>().is_ok() =>
        {
            Ok(namespace.to_owned())
        }
        _ => Err(Status::invalid_argument(format!(
            "no namespace is given, nor is there one in the key {key:?}"
        ))),
    }
}

/// containerd's own answer, but for the code that would make the next differ try.
fn content_failure(status: &Status) -> Status {
    let message = format!("containerd gave no more of the layer: {}", status.message());
    match status.code() {
        Code::Unimplemented | Code::Ok => Status::unavailable(message),
        code => Status::new(code, message),
    }
}

fn status_of(error: &Error) -> Status {
    let message = format!("{error:#}");
    if is_out_of_descriptors(error) {
        return Status::unavailable(message);
    }
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Entry | ErrorKind::Unsupported => {
            Status::invalid_argument(message)
        }
        ErrorKind::Mismatch => Status::failed_precondition(message),
        ErrorKind::Limit | ErrorKind::StorageFull => Status::resource_exhausted(message),
        ErrorKind::Cancelled => Status::cancelled(message),
        _ => Status::internal(message),
    }
}

#[tonic::async_trait]
impl Diff for DiffService {
    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        traced(&self.metrics, Call::Apply, self.convert(request)).await
    }

    /// The way back, from disks to a layer, would stand here.
    async fn diff(&self, _: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        let unimplemented = async {
            Err(Status::unimplemented(
                "layers are made here, not taken back: an lcow-layer is mounted by a utility \
                 VM, not by this host",
            ))
        };
        traced(&self.metrics, Call::Diff, unimplemented).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_those_of_linux_layers() {
        let oci = "application/vnd.oci.image.layer.v1.tar";
        let docker = "application/vnd.docker.image.rootfs.diff.tar";
        assert_eq!(compression(oci).unwrap(), Some(Compression::None));
        assert_eq!(
            compression(&format!("{oci}+gzip")).unwrap(),
            Some(Compression::Gzip)
        );
        assert_eq!(
            compression(&format!("{oci}+zstd")).unwrap(),
            Some(Compression::Zstd)
        );
        let foreign = docker.replace("rootfs", "rootfs.foreign");
        for base in [docker, &foreign] {
            for sniffed in ["", ".gzip", ".zstd"] {
                assert_eq!(compression(&format!("{base}{sniffed}")).unwrap(), None);
            }
        }
        let kept = oci.replace("layer", "layer.nondistributable");
        for suffix in ["", "+gzip", "+zstd"] {
            let same = compression(&format!("{oci}{suffix}")).unwrap();
            assert_eq!(compression(&format!("{kept}{suffix}")).unwrap(), same);
        }
        for encrypted in ["+encrypted", "+gzip+encrypted", "+encrypted+zstd"] {
            let refused = compression(&format!("{oci}{encrypted}")).unwrap_err();
            assert!(refused.message().contains("encrypted, and"), "{refused}");
        }
        for other in [
            "",
            "text/plain",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.docker.image.rootfs.diff.tar.gzip+gzip",
        ] {
            let refused = compression(other).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{other}");
        }
    }

    #[test]
    fn a_mount_of_another_type_is_another_differs() {
        let mount = |kind: &str| Mount {
            r#type: kind.into(),
            ..Mount::default()
        };
        let code = |mounts: &[Mount]| lcow_mount(mounts).map(|_| ()).map_err(|e| e.code());
        assert_eq!(code(&[mount("lcow-layer")]), Ok(()));
        assert_eq!(code(&[mount("overlay")]), Err(Code::Unimplemented));
        let mixed = [mount("lcow-layer"), mount("bind")];
        assert_eq!(code(&mixed), Err(Code::Unimplemented));
        assert_eq!(code(&[]), Err(Code::InvalidArgument));
        let two = [mount("lcow-layer"), mount("lcow-layer")];
        assert_eq!(code(&two), Err(Code::InvalidArgument));
    }

    #[test]
    fn a_key_tells_its_namespace() {
        assert_eq!(
            namespace_of("k8s.io/17/extract-1 sha256:a/b").unwrap(),
            "k8s.io"
        );
        for key in ["", "a", "a/1", "/1/x", "a/b/c"] {
            assert!(namespace_of(key).is_err(), "{key}");
        }
    }
}
