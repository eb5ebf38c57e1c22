//! The introspection service: what containerd has no place for in its own list of plugins,
//! for those who ask the plugin itself (`ctr -a ADDRESS plugins ls -d`).

use std::path::Path;
use std::process;

use tonic::{Request, Response, Status};

use crate::api::introspection::v1::introspection_server::Introspection;
use crate::api::introspection::v1::{
    Plugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest, PluginsResponse, ServerResponse,
};
use crate::api::types::Platform;
use crate::filter::Filters;
use crate::platform;

const SNAPSHOTTER_TYPE: &str = "io.containerd.snapshotter.v1";
const DIFFER_TYPE: &str = "io.containerd.differ.v1";
/// A layer is bytes: it is converted wherever it will run.
const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

/// The service.
#[derive(Debug)]
pub(crate) struct IntrospectionService {
    plugins: Vec<Plugin>,
}

impl IntrospectionService {
    pub(crate) fn new(root: &Path, snapshotter: &str, differ: &str) -> Self {
        let platforms = PLATFORMS.map(|architecture| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Platform::default()
        });
        let plugin = |kind: &str, id: &str| Plugin {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            platforms: platforms.to_vec(),
            ..Plugin::default()
        };
        let mut snapshots = plugin(SNAPSHOTTER_TYPE, snapshotter);
        let exported = root.display().to_string();
        snapshots.exports.insert("root".to_owned(), exported);
        Self {
            plugins: vec![snapshots, plugin(DIFFER_TYPE, differ)],
        }
    }
}

#[tonic::async_trait]
impl Introspection for IntrospectionService {
    async fn plugins(
        &self,
        request: Request<PluginsRequest>,
    ) -> Result<Response<PluginsResponse>, Status> {
        let filters = Filters::parse(&request.into_inner().filters)?;
        let matches = |plugin: &&Plugin| {
            filters.match_fields(|path| match &path.first()?[..] {
                "type" => Some(&plugin.r#type),
                "id" => Some(&plugin.id),
                _ => None,
            })
        };
        let plugins = self.plugins.iter().filter(matches).cloned().collect();
        Ok(Response::new(PluginsResponse { plugins }))
    }

    async fn server(&self, _: Request<()>) -> Result<Response<ServerResponse>, Status> {
        Ok(Response::new(ServerResponse {
            // containerd's own identity; this process has none.
            uuid: String::new(),
            pid: process::id().into(),
            pidns: platform::pid_namespace(),
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        let PluginInfoRequest { r#type, id, .. } = request.into_inner();
        let found = self
            .plugins
            .iter()
            .find(|p| p.r#type == r#type && p.id == id);
        let plugin = found.cloned().ok_or_else(|| {
            Status::not_found(format!(
                "the plugin {id:?} of the type {type:?} does not exist"
            ))
        })?;
        Ok(Response::new(PluginInfoResponse {
            plugin: Some(plugin),
            extra: None,
        }))
    }
}
