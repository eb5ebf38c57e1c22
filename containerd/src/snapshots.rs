//! The snapshots service.

use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status};
use tracing::{info, warn};

use crate::api::snapshots::v1 as api;
use crate::api::snapshots::v1::snapshots_server::Snapshots;
use crate::api::types::Mount;
use crate::conversions::Conversions;
use crate::filter::Filters;
use crate::layout::Layout;
use crate::metrics::{Call, Metrics};
use crate::rpc::{blocking, traced};
use crate::scratch::{Request as ScratchRequest, Scratches};
use crate::store::{Commit, Kind, Record, Snapshot, Store, Time};

/// The type of the mounts that utility VMs take.
pub(crate) const LCOW_LAYER: &str = "lcow-layer";
/// A key with this is a layer's that is being unpacked, and needs no scratch disk.
const UNPACKING: &str = "extract-";
/// Snapshots in one message of a list, as many as containerd's own service sends, and the bytes
/// from which on there are fewer.
const LISTED: usize = 100;
const LISTED_BYTES: usize = 256 << 10;

/// The mounts of a snapshot.
pub(crate) fn mount(layout: &Layout, snapshot: &Snapshot) -> Mount {
    let (shown, below) = layout.shown(snapshot);
    let below: Vec<_> = below.iter().map(|id| layout.directory(*id)).collect();
    let mode = match snapshot.record.kind {
        Kind::View => "ro",
        Kind::Active | Kind::Committed => "rw",
    };
    Mount {
        r#type: LCOW_LAYER.to_owned(),
        source: layout.directory(shown),
        target: String::new(),
        options: vec![
            mode.to_owned(),
            format!("parentLayerPaths={}", serde_json::json!(below)),
        ],
    }
}

fn timestamp(time: Time) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: time.seconds.cast_signed(),
        nanos: time.nanos.cast_signed(),
    })
}

fn info_of(key: &str, record: &Record) -> api::Info {
    let kind = match record.kind {
        Kind::Active => api::Kind::Active,
        Kind::View => api::Kind::View,
        Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: key.to_owned(),
        parent: record.parent.clone(),
        kind: kind.into(),
        created_at: timestamp(record.created),
        updated_at: timestamp(record.updated),
        labels: record.labels.clone().into_iter().collect(),
    }
}

fn field<'a>(key: &'a str, record: &'a Record, path: &[String]) -> Option<&'a str> {
    match &path.first()?[..] {
        "name" => Some(key),
        "kind" => Some(record.kind.as_str()),
        "parent" => Some(&record.parent),
        "labels" => record.labels.get(&path[1..].join(".")).map(|v| &v[..]),
        _ => None,
    }
}

/// The service.
#[derive(Debug)]
pub(crate) struct SnapshotService {
    shared: Arc<Shared>,
}

/// State that calls share with the threads they block.
#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    layout: Layout,
    scratches: Scratches,
    conversions: Conversions,
    metrics: Arc<Metrics>,
}

impl SnapshotService {
    pub(crate) fn new(
        store: Arc<Store>,
        layout: Layout,
        scratches: Scratches,
        conversions: Conversions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                layout,
                scratches,
                conversions,
                metrics,
            }),
        }
    }

    /// Does a call that blocks.
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Shared) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let shared = Arc::clone(&self.shared);
        traced(&self.shared.metrics, call, blocking(move || work(&shared))).await
    }
}

impl Shared {
    /// Makes a snapshot: its key is taken first, then its directory made, outside any
    /// transaction, and at last everybody may see it.
    fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: std::collections::HashMap<String, String>,
    ) -> Result<Vec<Mount>, Status> {
        let request = match kind {
            Kind::Active if !key.contains(UNPACKING) => {
                Some(ScratchRequest::from_labels(key, &labels)?)
            }
            _ => None,
        };
        let labels = labels.into_iter().collect();
        let snapshot = self.store.create(kind, key, parent, labels)?;
        let id = snapshot.record.id;
        // A view of a parent shows the parent's directory.
        let has_directory = kind == Kind::Active || snapshot.parents.is_empty();
        let made = || {
            self.layout.check_below(&snapshot)?;
            if has_directory {
                let directory = self.layout.create_directory(id)?;
                if let Some(request) = &request {
                    self.scratches
                        .make(request, &directory, &self.store, &self.layout)?;
                }
                let mut record = snapshot.record.clone();
                record.unfinished = false;
                self.layout.record_new(key, &record)?;
            }
            self.store.publish(key)
        };
        if let Err(status) = made() {
            self.layout.discard(id);
            if let Err(e) = self.store.abandon(key) {
                warn!(
                    key,
                    error = e.message(),
                    "a snapshot cannot be given up yet"
                );
            }
            return Err(status);
        }
        if has_directory && let Err(status) = self.layout.settle(id) {
            // It was removed meanwhile, or nobody is to have it.
            if self.store.remove(key, |_| Ok(()), |_| ()).is_ok() {
                self.layout.discard(id);
            }
            return Err(status);
        }
        info!(key, parent, id, kind = kind.as_str(), "a snapshot is made");
        Ok(vec![mount(&self.layout, &snapshot)])
    }

    fn commit(&self, request: api::CommitSnapshotRequest) -> Result<(), Status> {
        let api::CommitSnapshotRequest {
            key,
            name,
            parent,
            labels,
            ..
        } = request;
        // The name is asked about before the key, and again, with the key, within the
        // transaction.
        if let Ok(found) = self.store.get(&name) {
            return Err(Status::already_exists(format!(
                "the snapshot {:?} exists",
                found.key
            )));
        }
        let snapshot = self.store.get(&key)?;
        let id = snapshot.record.id;
        // No layer is converted into it while it is measured and committed.
        let _held = self.conversions.hold(id)?;
        if snapshot.parents.is_empty()
            && !parent.is_empty()
            && self.layout.layer(id).is_ok_and(|layer| layer.exists())
        {
            // A bottom layer has no whiteouts, and made up the parents of its entries.
            return Err(Status::failed_precondition(format!(
                "the layer in {key:?} was converted as one that nothing is below; it cannot \
                 get the parent {parent:?} now"
            )));
        }
        let (usage, layer) = match snapshot.record.kind {
            Kind::Active => (self.layout.usage(id)?, self.layout.layer_to_commit(id)?),
            Kind::View | Kind::Committed => Default::default(),
        };
        let commit = Commit {
            name: name.clone(),
            parent,
            labels: labels.into_iter().collect(),
            usage,
            layer,
        };
        // On stable storage before the commit: a directory's own record is never behind.
        let before = |record: &Record| self.layout.record(&name, record);
        self.store.commit(&key, commit, before)?;
        info!(key, name, id, size = usage.size, "a snapshot is committed");
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<(), Status> {
        let mut removed = self.try_remove(key);
        // A removal makes room, and needs a little to be recorded.
        if matches!(&removed, Err(status) if status.code() == Code::ResourceExhausted)
            && self.layout.release_reserve()
        {
            removed = self.try_remove(key);
        }
        let id = removed?;
        if self.layout.delete(id) {
            self.store.deleted(id);
        }
        self.layout.keep_reserve();
        info!(key, id, "a snapshot is removed");
        Ok(())
    }

    fn try_remove(&self, key: &str) -> Result<u64, Status> {
        self.store.remove(
            key,
            |id| {
                self.conversions.cancel(id);
                // Where open files hold their directory, it goes when the conversion has ended.
                self.layout.set_aside(id).map_err(|status| {
                    let ended = self.conversions.check_idle(id);
                    ended.err().unwrap_or(status)
                })
            },
            |id| self.layout.put_back(id),
        )
    }

    /// Deletes what was removed, and could not be deleted then.
    fn cleanup(&self) -> Result<(), Status> {
        for id in self.store.removed()? {
            if self.layout.delete(id) {
                self.store.deleted(id);
            }
        }
        Ok(())
    }

    fn usage(&self, key: &str) -> Result<api::UsageResponse, Status> {
        let record = self.store.get(key)?.record;
        let usage = match record.kind {
            Kind::Active => self.layout.usage(record.id)?,
            Kind::Committed | Kind::View => record.usage,
        };
        Ok(api::UsageResponse {
            size: usage.size.cast_signed(),
            inodes: usage.inodes.cast_signed(),
        })
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let snapshot = self.store.get(key)?;
        match snapshot.record.kind {
            Kind::Active | Kind::View => Ok(vec![mount(&self.layout, &snapshot)]),
            Kind::Committed => Err(Status::failed_precondition(format!(
                "the snapshot {key:?} is committed; nothing mounts it but a view"
            ))),
        }
    }

    /// A message of a list, and the key behind which the next one begins.
    fn list(
        &self,
        filters: &Filters,
        behind: Option<&str>,
    ) -> Result<(api::ListSnapshotsResponse, Option<String>), Status> {
        let mut bytes = 0;
        let select = |key: &str, record: &Record| {
            let matches = filters.match_fields(|path| field(key, record, path));
            matches.then(|| info_of(key, record))
        };
        let mut counted = 0;
        let enough = |infos: &[api::Info]| {
            bytes += infos[counted..]
                .iter()
                .map(Message::encoded_len)
                .sum::<usize>();
            counted = infos.len();
            counted >= LISTED || bytes >= LISTED_BYTES
        };
        let (info, next) = self.store.page(behind, select, enough)?;
        Ok((api::ListSnapshotsResponse { info }, next))
    }

    /// Sends a list in messages, each made when the one before was taken: a slow reader takes no
    /// more memory than a quick one.
    async fn send_list(
        self: Arc<Self>,
        filters: Filters,
        sender: mpsc::Sender<Result<api::ListSnapshotsResponse, Status>>,
        mut behind: Option<String>,
    ) {
        let filters = Arc::new(filters);
        loop {
            // Room is checked before a directory is made.
            let Ok(place) = sender.reserve().await else {
                return;
            };
            let (shared, filters) = (Arc::clone(&self), Arc::clone(&filters));
            let page = blocking(move || shared.list(&filters, behind.as_deref())).await;
            match page {
                Ok((message, next)) => {
                    if !message.info.is_empty() {
                        place.send(Ok(message));
                    }
                    match next {
                        Some(next) => behind = Some(next),
                        None => return,
                    }
                }
                Err(status) => {
                    place.send(Err(status));
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl Snapshots for SnapshotService {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.call(Call::Prepare, move |shared| {
            let mounts =
                shared.create(Kind::Active, &request.key, &request.parent, request.labels)?;
            Ok(api::PrepareSnapshotResponse { mounts })
        })
        .await
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.call(Call::View, move |shared| {
            let mounts =
                shared.create(Kind::View, &request.key, &request.parent, request.labels)?;
            Ok(api::ViewSnapshotResponse { mounts })
        })
        .await
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let key = request.into_inner().key;
        self.call(Call::Mounts, move |shared| {
            let mounts = shared.mounts(&key)?;
            Ok(api::MountsResponse { mounts })
        })
        .await
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        self.call(Call::Commit, move |shared| shared.commit(request))
            .await
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        self.call(Call::Remove, move |shared| shared.remove(&key))
            .await
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        self.call(Call::Stat, move |shared| {
            let info = info_of(&key, &shared.store.get(&key)?.record);
            Ok(api::StatSnapshotResponse { info: Some(info) })
        })
        .await
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.call(Call::Update, move |shared| {
            let info = request
                .info
                .ok_or_else(|| Status::invalid_argument("no snapshot to update"))?;
            let labels = info.labels.into_iter().collect();
            let paths = request.update_mask.unwrap_or_default().paths;
            let before = |record: &Record| shared.layout.record(&info.name, record);
            let record = shared.store.update(&info.name, &labels, &paths, before)?;
            let info = Some(info_of(&info.name, &record));
            Ok(api::UpdateSnapshotResponse { info })
        })
        .await
    }

    type ListStream =
        Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send + 'static>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        // The first message is made here: what is wrong with the filters or the store is told
        // and counted as with every call.
        let first = self.call(Call::List, move |shared| {
            let filters = Filters::parse(&filters)?;
            let first = shared.list(&filters, None)?;
            Ok((filters, first))
        });
        let (filters, (message, next)) = first.await?.into_inner();
        let first = (!message.info.is_empty()).then_some(Ok(message));
        let (sender, receiver) = mpsc::channel(1);
        if next.is_some() {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(shared.send_list(filters, sender, next));
        }
        let messages = tokio_stream::iter(first).chain(ReceiverStream::new(receiver));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let key = request.into_inner().key;
        self.call(Call::Usage, move |shared| shared.usage(&key))
            .await
    }

    async fn cleanup(&self, _: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        self.call(Call::Cleanup, |shared| shared.cleanup()).await
    }
}
