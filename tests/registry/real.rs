//! Debian's docker-registry: plain, with TLS and a password, and behind a proxy that cuts.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tar2vhd::image::registry::{Registry, RegistryOptions};
use tar2vhd::image::{Image, Images};
use tar2vhd::{ErrorKind, Options};

use crate::image::{Content, layer, noise, options};
use crate::proxy::Proxy;
use crate::server::{Answer, Server};
use crate::tools::{DockerRegistry, PASSWORD, USER, run};

fn several() -> Content {
    Content::new(&[
        layer("noise", &noise(5, 3 << 20)),
        layer("small", b"small"),
        layer("empty", b""),
    ])
}

/// The content as an OCI layout in the registry's directory, and copied to `r:t`.
fn fill(registry: &DockerRegistry, content: &Content, is_locked: bool) -> Option<Images> {
    let layout = registry.path("layout");
    content.write(&layout);
    registry.fill(&layout, "some/repository:t", is_locked)?;
    Some(Images::open(layout).unwrap().unwrap())
}

fn images(place: impl std::fmt::Display, options: RegistryOptions) -> tar2vhd::Result<Images> {
    let name = format!("{place}/some/repository:t").parse().unwrap();
    Registry::new(options)?.images(&name)
}

/// The same documents, layers and disks come from both.
fn assert_same(found: &Image, expected: &Image) {
    assert_eq!(found.id(), expected.id());
    assert_eq!(found.manifest(), expected.manifest());
    assert_eq!(found.configuration(), expected.configuration());
    assert_eq!(found.layers().len(), expected.layers().len());
    for (layer, other) in found.layers().iter().zip(expected.layers()) {
        let [found, expected] = [(found, layer), (expected, other)].map(|(image, layer)| {
            let mut bytes = Vec::new();
            let mut blob = image.open_layer(layer).unwrap();
            blob.read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert!(found == expected);
    }
    let [found, expected] = [found, expected].map(|image| {
        let place = tempfile::tempdir().unwrap();
        let options = Options::new().fsync(false);
        let converted = image.convert(place.path(), &options, &|_| {}).unwrap();
        let disks = converted.layers.iter().map(|layer| &layer.path);
        disks
            .map(|disk| fs::read(disk).unwrap())
            .collect::<Vec<_>>()
    });
    assert!(found == expected);
}

#[test]
fn a_plain_registry_gives_what_skopeo_put_there() {
    let Some(registry) = DockerRegistry::plain() else {
        return;
    };
    let Some(expected) = fill(&registry, &several(), false) else {
        return;
    };
    let found = images(registry.address, options()).unwrap();
    let [found, expected] = [found, expected].map(|images| images.choose(None, None).unwrap());
    assert_same(&found, &expected);
    let name = format!("{}/some/repository:other", registry.address);
    let missing = Registry::new(options())
        .unwrap()
        .images(&name.parse().unwrap());
    let error = missing.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn an_index_has_an_image_for_each_platform() {
    let Some(registry) = DockerRegistry::plain() else {
        return;
    };
    let content = Content::for_architectures(&["amd64", "s390x"]);
    let Some(expected) = fill(&registry, &content, false) else {
        return;
    };
    let found = images(registry.address, options()).unwrap();
    for platform in ["linux/amd64", "linux/s390x"] {
        let platform = platform.parse().unwrap();
        let [found, expected] =
            [&found, &expected].map(|images| images.choose(None, Some(&platform)).unwrap());
        assert_same(&found, &expected);
    }
    let other = "linux/riscv64".parse().unwrap();
    let error = found.choose(None, Some(&other)).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("linux/amd64, linux/s390x"), "{text}");
}

#[test]
fn connections_that_are_cut_are_resumed() {
    let Some(registry) = DockerRegistry::plain() else {
        return;
    };
    let Some(expected) = fill(&registry, &several(), false) else {
        return;
    };
    let proxy = Proxy::start(registry.address, 1_200_000);
    let found = images(proxy.address, options()).unwrap();
    let before = proxy.connections();
    let [found, expected] = [found, expected].map(|images| images.choose(None, None).unwrap());
    assert_same(&found, &expected);
    // Three for 3 MiB, read twice.
    assert!(proxy.connections() - before >= 5, "{}", proxy.connections());
}

#[test]
fn a_locked_registry_is_read_with_its_authority_and_a_password() {
    let Some(registry) = DockerRegistry::locked() else {
        return;
    };
    let Some(expected) = fill(&registry, &several(), true) else {
        return;
    };
    let address = registry.address;
    let verified = options().tls_verify(true).ca_file(registry.path("ca.pem"));
    let with_password = verified.clone().credentials(USER, PASSWORD);
    let found = images(address, with_password).unwrap();
    let [found, expected] = [found, expected].map(|images| images.choose(None, None).unwrap());
    assert_same(&found, &expected);

    for (options, words) in [
        (verified.clone(), "log in by `docker login 127.0.0.1:"),
        (
            verified.credentials(USER, "wrong"),
            "does not accept the credentials",
        ),
        (
            options().tls_verify(true).credentials(USER, PASSWORD),
            "is not trusted, which --tls-verify=false",
        ),
    ] {
        let error = images(address, options).err().unwrap();
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&address.to_string()), "{text}");
        assert_eq!(error.kind(), ErrorKind::Input, "{text}");
    }
    // Another name than the certificate has.
    let elsewhere = format!("localhost:{}", address.port());
    let error = images(
        &elsewhere,
        options().tls_verify(true).ca_file(registry.path("ca.pem")),
    );
    let error = error.err().unwrap();
    assert!(error.to_string().contains("is not trusted"), "{error}");
    images(&elsewhere, options().credentials(USER, PASSWORD)).unwrap();

    credentials_are_found_where_others_keep_them(&registry);
}

#[test]
fn secrets_and_layers_do_not_go_where_tls_is_not() {
    let elsewhere = Server::start(|_| Answer::ok(*br#"{"token":"x"}"#));
    let url = format!("http://{}", elsewhere.address);
    let Some(registry) = DockerRegistry::with_tokens(&format!("{url}/token")) else {
        return;
    };
    let verified = |registry: &DockerRegistry| {
        let options = options().tls_verify(true).ca_file(registry.path("ca.pem"));
        images(registry.address, options.credentials(USER, PASSWORD))
    };
    let error = verified(&registry).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("does not speak TLS"), "{text}");
    assert!(text.contains(&elsewhere.address.to_string()), "{text}");

    let redirect = format!(
        "middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: {url}/\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::with_tls(directory, &redirect) else {
        return;
    };
    let Some(_) = fill(&registry, &several(), false) else {
        return;
    };
    let error = verified(&registry).unwrap().choose(None, None);
    let text = format!("{:#}", error.err().unwrap());
    assert!(text.contains("it leads from TLS to plain HTTP"), "{text}");
    assert_eq!(elsewhere.requests().len(), 0);
}

/// The variables that say where credentials and authorities are are those of a process: another
/// one reads the image, as `the_environment_of_another_process` does.
fn credentials_are_found_where_others_keep_them(registry: &DockerRegistry) {
    let host = registry.address.to_string();
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let write = |name: &str, contents: &str| {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), contents).unwrap();
    };
    let auth = json!({ "auth": STANDARD.encode(format!("{USER}:{PASSWORD}")) });
    let entry = json!({ "auths": { &host: auth } }).to_string();
    write("podman/auth.json", &entry);
    write("runtime/containers/auth.json", &entry);
    write("docker/config.json", &entry);
    let helpers = json!({ "credHelpers": { &host: "test" }, "auths": { &host: {} } });
    write("helpers/config.json", &helpers.to_string());
    let store = json!({ "credsStore": "test", "auths": { &host: {} } });
    write("store/config.json", &store.to_string());
    write("none/config.json", r#"{"credsStore": "none"}"#);
    write("broken/config.json", r#"{"credsStore": "broken"}"#);
    write("absent/config.json", r#"{"credsStore": "absent"}"#);
    // A helper gets the host alone.
    let test = format!(
        "#!/bin/sh\nread -r host || [ \"$host\" = {host} ] || exit 1\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n"
    );
    write("bin/docker-credential-test", &test);
    let none = "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n";
    write("bin/docker-credential-none", none);
    let broken = "#!/bin/sh\necho hunter2\nexit 1\n";
    write("bin/docker-credential-broken", broken);
    for name in ["test", "none", "broken"] {
        let helper = path("bin").join(format!("docker-credential-{name}"));
        assert!(run(Command::new("chmod").arg("+x").arg(helper)).is_some());
    }
    for (variable, value, words) in [
        ("REGISTRY_AUTH_FILE", "podman/auth.json", ""),
        ("XDG_RUNTIME_DIR", "runtime", ""),
        ("DOCKER_CONFIG", "docker", ""),
        ("DOCKER_CONFIG", "helpers", ""),
        ("DOCKER_CONFIG", "store", ""),
        ("DOCKER_CONFIG", "none", "log in by"),
        ("DOCKER_CONFIG", "broken", "docker-credential-broken, which"),
        ("DOCKER_CONFIG", "absent", "docker-credential-absent, which"),
        (
            "REGISTRY_AUTH_FILE",
            "missing",
            "cannot read credentials from",
        ),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("real::the_environment_of_another_process")
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", path("bin").display()))
            .env("HOME", place.path())
            .env("SSL_CERT_FILE", registry.path("ca.pem"))
            .env("TAR2VHD_TEST_REGISTRY", &host)
            // Nothing listens there, nor should it be asked.
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env(variable, path(value))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        match words {
            "" => assert!(said.contains("1 passed"), "{value}: {said}"),
            words => {
                assert!(said.contains(words), "{value}: {said}");
                assert!(!said.contains(PASSWORD), "{value}: {said}");
            }
        }
    }
}

#[test]
#[ignore = "it is run by another test, with an environment of its own"]
fn the_environment_of_another_process() {
    let Ok(host) = std::env::var("TAR2VHD_TEST_REGISTRY") else {
        return;
    };
    assert!(Path::new(&std::env::var("SSL_CERT_FILE").unwrap()).exists());
    let found = images(host, RegistryOptions::new()).unwrap();
    found.choose(None, None).unwrap();
}

#[test]
fn an_image_that_umoci_made_is_read() {
    let Some(registry) = DockerRegistry::plain() else {
        return;
    };
    let layout = registry.path("layout");
    let file = registry.path("file");
    // umoci 0.4.7 leaves out the padding that another size would need.
    fs::write(&file, noise(9, 200 * 512)).unwrap();
    let image = format!("{}:t", layout.display());
    let [layout_path, file] = [&layout, &file].map(|path| path.to_str().unwrap());
    for arguments in [
        &["init", "--layout", layout_path][..],
        &["new", "--image", &image],
        &["insert", "--image", &image, file, "/a/file"],
        &["insert", "--image", &image, "--whiteout", "/a/none"],
        &["config", "--image", &image, "--config.cmd", "/a/file"],
    ] {
        if run(Command::new("umoci").args(arguments)).is_none() {
            return;
        }
    }
    let Some(()) = registry.fill(&layout, "some/repository:t", false) else {
        return;
    };
    let found = images(registry.address, options()).unwrap();
    let expected = Images::open(&layout).unwrap().unwrap();
    let [found, expected] = [found, expected].map(|images| images.choose(None, None).unwrap());
    assert_eq!(found.configuration()["config"]["Cmd"], json!(["/a/file"]));
    assert_same(&found, &expected);
}
