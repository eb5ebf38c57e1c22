//! Where credentials are kept.
//!
//! Sources: containers-auth.json(5); `docker login` for config.json, its `credHelpers` and
//! `credsStore`, and the protocol of credential helpers.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::name::{DOCKER, ImageName};
use crate::error::{Error, ErrorKind, Result};
use crate::image::json::text;
use crate::summary::display_file;

/// A secret that a registry knows.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// For basic authentication, and for a token of the token server.
    Password { user: String, password: String },
    /// For a token of the token server alone.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// The key under which docker keeps the credentials of its own registry.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The user that a helper gives an identity token.
const TOKEN_USER: &str = "<token>";
/// Bytes of a file that are read at most.
const FILE_MAX: u64 = 4 << 20;

/// The credentials that files have for an image; none if there are none.
pub(super) fn find(name: &ImageName, auth_file: Option<&Path>) -> Result<Option<Credentials>> {
    let stated = auth_file.map(Path::to_owned);
    if let Some(path) = stated.or_else(|| variable("REGISTRY_AUTH_FILE")) {
        let found = read(&path)?.ok_or_else(|| failed(&path).with_source(not_found()))?;
        return in_file(&found, name, &path);
    }
    for path in files(&variable) {
        if let Some(file) = read(&path)?
            && let Some(found) = in_file(&file, name, &path)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The files that are looked at, the first first.
fn files(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    const CONTAINERS: &str = "containers/auth.json";
    let home = variable("HOME").or_else(env::home_dir);
    let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let runtime = variable("XDG_RUNTIME_DIR").map(|directory| directory.join(CONTAINERS));
    let configuration = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    [
        runtime.or_else(file_of_user),
        configuration.map(|directory| directory.join(CONTAINERS)),
        docker.map(|directory| directory.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The file in which podman and skopeo keep credentials where the session has no directory.
#[cfg(target_os = "linux")]
fn file_of_user() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let user = fs::metadata("/proc/self").ok()?.uid();
    Some(format!("/run/containers/{user}/auth.json").into())
}

#[cfg(not(target_os = "linux"))]
fn file_of_user() -> Option<PathBuf> {
    None
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn failed(path: &Path) -> Error {
    let path = display_file(path);
    Error::new(
        ErrorKind::Input,
        format!("cannot read credentials from {path}"),
    )
}

/// A file of credentials; none if it is not there.
fn read(path: &Path) -> Result<Option<Value>> {
    let size = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path).with_source(e)),
        Ok(found) => found.len(),
    };
    if size > FILE_MAX {
        return Err(failed(path).with_source(io::Error::other("it is too large")));
    }
    let bytes = fs::read(path).map_err(|e| failed(path).with_source(e))?;
    // What serde_json says names no values, but the place alone.
    let file = serde_json::from_slice(&bytes).map_err(|e| failed(path).with_source(e))?;
    Ok(Some(file))
}

/// The credentials that a file has or leads to.
fn in_file(file: &Value, name: &ImageName, path: &Path) -> Result<Option<Credentials>> {
    let registry = name.registry();
    let helpers = &file["credHelpers"];
    for key in keys(registry) {
        if let Some(helper) = text(helpers, key).filter(|helper| !helper.is_empty()) {
            return ask(helper, registry, path);
        }
    }
    if let Some(found) = in_list(&file["auths"], name, path)? {
        return Ok(Some(found));
    }
    match text(file, "credsStore").filter(|helper| !helper.is_empty()) {
        Some(helper) => ask(helper, registry, path),
        None => Ok(None),
    }
}

/// The keys of a registry alone, which helpers know.
fn keys(registry: &str) -> impl Iterator<Item = &str> {
    let docker = (registry == DOCKER).then_some([DOCKER_KEY, "index.docker.io"]);
    docker.into_iter().flatten().chain([registry])
}

/// The credentials in the list of a file: those for the repository, else those for what is above it.
fn in_list(list: &Value, name: &ImageName, path: &Path) -> Result<Option<Credentials>> {
    let Some(list) = list.as_object() else {
        return Ok(None);
    };
    let whole = format!("{}/{}", name.registry(), name.repository());
    let mut key = whole.as_str();
    loop {
        let entries = list.iter().filter(|(other, _)| normalized(other) == key);
        for (_, entry) in entries {
            if let Some(found) = in_entry(entry, path)? {
                return Ok(Some(found));
            }
        }
        match key.rsplit_once('/') {
            Some((above, _)) => key = above,
            None => return Ok(None),
        }
    }
}

/// A key of the list as the name of a registry or of what is in it.
fn normalized(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    // A URL names a registry, whatever path it has.
    let key = bare.map_or(key, |bare| bare.split('/').next().unwrap_or(bare));
    match key {
        "index.docker.io" | "registry-1.docker.io" => DOCKER,
        key => key,
    }
}

/// The credentials of an entry of the list, which is empty where a helper has them.
fn in_entry(entry: &Value, path: &Path) -> Result<Option<Credentials>> {
    let field = |name: &str| text(entry, name).filter(|text| !text.is_empty());
    if let Some(token) = field("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(token.to_owned())));
    }
    let Some(encoded) = field("auth") else {
        let pair = field("username").zip(field("password"));
        return Ok(pair.map(|(user, password)| Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }));
    };
    let padding = DecodePaddingMode::Indifferent;
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(padding);
    let decoded = GeneralPurpose::new(&STANDARD, config).decode(encoded).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded
        .as_deref()
        .and_then(|pair| pair.trim_end_matches('\0').split_once(':'));
    match pair {
        Some((user, password)) => Ok(Some(Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })),
        None => {
            Err(failed(path).with_source(io::Error::other("an entry is not a user and a password")))
        }
    }
}

/// Asks a helper for the credentials of a registry, under each of its keys.
fn ask(helper: &str, registry: &str, path: &Path) -> Result<Option<Credentials>> {
    for key in keys(registry) {
        if let Some(found) = ask_for(helper, key, path)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn ask_for(helper: &str, key: &str, path: &Path) -> Result<Option<Credentials>> {
    // Neither output has a place in a message: one may hold a secret.
    let failed = |reason: &str| {
        let (helper, path) = (helper.escape_debug(), display_file(path));
        Error::new(
            ErrorKind::Input,
            format!("docker-credential-{helper}, which {path} names, {reason}"),
        )
    };
    if helper.contains(['/', '\\']) {
        return Err(failed("is not the name of a program"));
    }
    let started = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut process = started.map_err(|e| failed("cannot be run").with_source(e))?;
    // One that does not read what it is asked for says so by its status.
    let sent = process
        .stdin
        .take()
        .map(|mut input| input.write_all(key.as_bytes()));
    drop(sent);
    let output = process
        .wait_with_output()
        .map_err(|e| failed("cannot be waited for").with_source(e))?;
    if !output.status.success() {
        // The protocol knows this failure by its text alone.
        let said = String::from_utf8_lossy(&output.stdout);
        return match said.contains("credentials not found") {
            true => Ok(None),
            false => Err(failed("failed")),
        };
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let pair = text(&answer, "Username").zip(text(&answer, "Secret"));
    let (user, secret) = pair.ok_or_else(|| failed("gave no user and secret"))?;
    Ok(Some(match user {
        TOKEN_USER => Credentials::IdentityToken(secret.to_owned()),
        user => Credentials::Password {
            user: user.to_owned(),
            password: secret.to_owned(),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    fn found(file: &Value, name: &str) -> Option<Credentials> {
        in_file(file, &name.parse().unwrap(), Path::new("file")).unwrap()
    }

    #[test]
    fn the_entry_closest_to_the_repository_counts() {
        let file = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "ZDpl"},
            "host:5000": {"auth": "YTpiOmM="},
            "host:5000/x": {"username": "x", "password": "y"},
            "host:5000/x/z": {"auth": "", "identitytoken": "secret"},
            "empty.example": {},
        }});
        for (name, expected) in [
            ("debian", password("d", "e")),
            ("host:5000/a", password("a", "b:c")),
            ("host:5000/x/a", password("x", "y")),
            ("host:5000/xx/a", password("a", "b:c")),
            (
                "host:5000/x/z",
                Some(Credentials::IdentityToken("secret".into())),
            ),
            ("host:5001/x", None),
            ("empty.example/x", None),
        ] {
            assert!(found(&file, name) == expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_without_a_secret_in_it() {
        let file = json!({"auths": {"host.example": {"auth": "c2VjcmV0"}}});
        let name = "host.example/a".parse().unwrap();
        let error = in_file(&file, &name, Path::new("file")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("credentials from file"), "{text}");
        assert!(!text.contains("secret") && !text.contains("c2Vj"), "{text}");
    }

    #[test]
    fn files_are_those_of_podman_and_docker() {
        let only = |set: &'static [(&str, &str)]| {
            files(&move |name| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| PathBuf::from(value))
            })
        };
        let paths = only(&[("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")]);
        let expected = [
            "/r/containers/auth.json",
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
        let paths = only(&[
            ("XDG_RUNTIME_DIR", "/r"),
            ("XDG_CONFIG_HOME", "/c"),
            ("DOCKER_CONFIG", "/d"),
            ("HOME", "/h"),
        ]);
        let expected = [
            "/r/containers/auth.json",
            "/c/containers/auth.json",
            "/d/config.json",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn without_a_directory_of_the_session_there_is_one_of_the_user() {
        use std::os::unix::fs::MetadataExt as _;
        let place = tempfile::NamedTempFile::new().unwrap();
        let user = place.as_file().metadata().unwrap().uid();
        let paths = files(&|name| (name == "HOME").then(|| "/h".into()));
        let expected = format!("/run/containers/{user}/auth.json");
        assert_eq!(paths[0], Path::new(&expected));
    }
}
