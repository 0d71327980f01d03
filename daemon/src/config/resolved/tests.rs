//! The documented defaults are the defaults, each key works, and what is wrong is named with its line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_api::location::Surroundings;
use cairn_content::codec::Compression;
use cairn_content::objects::{Credentials, ObjectOptions};
use cairn_content::sealing::key_file::Access;

use super::{Config, Environment, File, Source};
use crate::arguments::Arguments;
use crate::config::file::{LogFormat, LogLevel};
use crate::config::stores::KeyFile;
use crate::config::{ConfigError, DEFAULT_CONFIG, Place};

fn environment() -> Environment {
    let user = Surroundings {
        root: true,
        ..Surroundings::default()
    };
    Environment {
        user,
        working_directory: "/here".into(),
    }
}

fn resolve_with(text: &str, arguments: &Arguments) -> Result<Config, ConfigError> {
    let path = Path::new("c.toml");
    Config::resolve(
        File::parse(path, text)?,
        Source { path, text },
        arguments,
        &environment(),
    )
}

fn resolve(text: &str) -> Result<Config, ConfigError> {
    resolve_with(text, &Arguments::default())
}

/// The default configuration with the keys switched on that have a computed default.
fn everything() -> String {
    DEFAULT_CONFIG
        .replace("\n#data_dir", "\ndata_dir")
        .replace("\n#socket", "\nsocket")
        .replace("\n#node_name = \"node-1\"", "\nnode_name = \"node-1\"")
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let nothing = resolve("").unwrap();
    assert_eq!(resolve(DEFAULT_CONFIG).unwrap(), nothing);
    let named = Config {
        node_name: Some("node-1".to_owned()),
        ..nothing
    };
    assert_eq!(resolve(&everything()).unwrap(), named);
}

#[test]
fn the_default_configuration_has_every_key() {
    let file = File::parse(Path::new("c.toml"), &everything()).unwrap();
    // Debug prints every field of every section, so that no new key can be forgotten in the text.
    let shown = format!("{file:?}");
    let shown = shown.replace("tcp: None", "");
    assert!(
        !shown.contains("None"),
        "a key is missing in default.toml: {shown}"
    );
}

#[test]
fn the_documentation_has_the_default_configuration() {
    let page = include_str!("../../../../docs/operations/configuration.md");
    assert!(page.contains(&format!("```toml\n{DEFAULT_CONFIG}```\n")));
}

#[test]
fn every_key_takes_effect() {
    let text = r#"
data_dir = "/d"
node_name = "n"
nfs.listen = "[::1]:1"
nfs.connections_max = 9
nfs.threads_max = 8
nfs.memory_bytes_max = "100MiB"
rpc.socket = "run/s"
rpc.requests_max = 7
http.listen = "0.0.0.0:0"
metadata.cache_bytes = "16MiB"
metadata.write_buffer_bytes = "4MiB"
content.segment_bytes = 16777216
limits.disk_reserve_bytes = "2GiB"
limits.shutdown_seconds = 3
directories.roots = ["/data", "/srv/models"]
directories.jobs_max = 2
directories.verify_bytes_per_second = "1MiB"
directories.verify_again_days = 0
log.format = "json"
log.level = "trace"
"#;
    let expected = Config {
        data_dir: "/d".into(),
        node_name: Some("n".to_owned()),
        rpc_tcp: None,
        nfs_listen: "[::1]:1".parse().unwrap(),
        rpc_socket: "/here/run/s".into(),
        rpc_requests_max: 7,
        http_listen: "0.0.0.0:0".parse().unwrap(),
        nfs_connections_max: 9,
        nfs_threads_max: 8,
        nfs_memory_bytes_max: 100 << 20,
        metadata_cache_bytes: 16 << 20,
        metadata_write_buffer_bytes: 4 << 20,
        segment_bytes: 16 << 20,
        disk_reserve_bytes: 2 << 30,
        shutdown: Duration::from_secs(3),
        directories_roots: vec!["/data".into(), "/srv/models".into()],
        directories_jobs_max: 2,
        directories_verify_bytes_per_second: 1 << 20,
        directories_verify_again_days: 0,
        log_format: LogFormat::Json,
        log_level: LogLevel::Trace,
        stores: Vec::new(),
    };
    assert_eq!(resolve(text).unwrap(), expected);
}

/// The table `[rpc.tcp]` of the default configuration, switched on.
fn example_tcp() -> String {
    let from = DEFAULT_CONFIG.find("#[rpc.tcp]").unwrap();
    let to = DEFAULT_CONFIG.find("[http]").unwrap();
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => String::new(),
    };
    DEFAULT_CONFIG[from..to].lines().map(line).collect()
}

#[test]
fn the_example_of_tcp_has_every_key_and_its_defaults() {
    let file = File::parse(Path::new("c.toml"), &example_tcp()).unwrap();
    assert!(
        !format!("{:?}", file.rpc.tcp).contains("None"),
        "{:?}",
        file.rpc.tcp
    );
    let given = resolve(&example_tcp()).unwrap().rpc_tcp.unwrap();
    assert_eq!(given.files.key, Path::new("/etc/cairn/tls/tls.key"));
    let bare: String = example_tcp()
        .lines()
        .filter(|line| !line.starts_with("operations_clients") && !line.starts_with("connections_max"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(resolve(&bare).unwrap().rpc_tcp.unwrap(), given);
}

#[test]
fn rpc_over_tcp_is_never_half_configured() {
    for key in ["listen", "certificate", "key", "client_ca", "control_clients"] {
        let without: String = example_tcp()
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} =")))
            .map(|line| format!("{line}\n"))
            .collect();
        let error = resolve(&without).unwrap_err();
        let named = format!("rpc.tcp.{key}");
        assert!(
            matches!(&error, ConfigError::BadValue { key, place: Place::Line(..), .. } if *key == named),
            "{error:?}"
        );
    }
    let wild = example_tcp().replace("[\"cairn-operator\"]", "[\"*.example\"]");
    let error = resolve(&wild).unwrap_err();
    assert!(error.to_string().contains("rpc.tcp.control_clients"), "{error}");
}

#[test]
fn a_node_name_is_visible_text() {
    for bad in ["", "a b", "\u{e9}"] {
        let error = resolve(&format!("node_name = {bad:?}")).unwrap_err();
        assert!(error.to_string().contains("node_name"), "{error}");
    }
}

/// The table `[[store]]` of the default configuration, switched on.
fn example_store() -> String {
    let from = DEFAULT_CONFIG.find("#[[store]]").unwrap();
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => String::new(),
    };
    DEFAULT_CONFIG[from..].lines().map(line).collect()
}

#[test]
fn the_example_of_a_store_has_every_key_and_its_defaults() {
    let file = File::parse(Path::new("c.toml"), &example_store()).unwrap();
    assert!(!format!("{:?}", file.store).contains("None"), "{:?}", file.store);
    let config = resolve(&example_store()).unwrap();
    let defaults = ObjectOptions::default();
    let expected = ObjectOptions {
        endpoint: Some("https://objects.example.net".to_owned()),
        region: Some("us-east-1".to_owned()),
        account: Some("account".to_owned()),
        credentials: Credentials::File {
            path: "/etc/cairn/credentials".into(),
            profile: "default".to_owned(),
        },
        ..defaults.clone()
    };
    assert_eq!(config.stores.len(), 1);
    assert_eq!(config.stores[0].options, expected);
    let key_file = config.stores[0].key_file.as_ref().unwrap();
    assert_eq!(
        (key_file.path.as_path(), key_file.access),
        (Path::new("/etc/cairn/key"), Access::Owner)
    );
    let bare = resolve("[[store]]\nurl = 's3://b'").unwrap();
    assert_eq!(bare.stores[0].options, defaults);
    assert_eq!(bare.stores[0].key_file, None);
}

#[test]
fn every_key_of_a_store_takes_effect_and_its_options_are_within_their_bounds() {
    let text = "[[store]]\nurl = 's3://b/p/'\nendpoint = 'http://127.0.0.1:9000'\nallow_http = true\n\
                credentials_file = 'keys'\ncredentials_profile = 'backup'\nconnect_timeout_seconds = 300\n\
                request_timeout_seconds = 3600\nattempts_max = 100\nrequests_max = 1024\n\
                key_file = 'k'\nkey_file_shared = true\ncompression = 'gzip:9'\n\
                [[store]]\nurl = 'file:///srv'\nattempts_max = 1\nrequests_max = 1\n";
    let stores = resolve(text).unwrap().stores;
    assert_eq!(stores.len(), 2);
    assert_eq!(
        (stores[0].url.as_str(), stores[1].url.as_str()),
        ("s3://b/p", "file:///srv")
    );
    let options = &stores[0].options;
    assert_eq!(options.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert!(options.allow_http);
    let credentials = Credentials::File {
        path: "/here/keys".into(),
        profile: "backup".to_owned(),
    };
    assert_eq!(options.credentials, credentials);
    assert_eq!(
        (options.connect_timeout, options.request_timeout),
        (Duration::from_secs(300), Duration::from_secs(3600))
    );
    assert_eq!(
        (options.attempts_max, options.requests_in_flight_max),
        (100, 1024)
    );
    let key_file = KeyFile {
        path: "/here/k".into(),
        access: Access::Anybody,
    };
    assert_eq!(stores[0].key_file, Some(key_file));
    assert_eq!(
        (stores[0].compression, stores[1].compression),
        (Compression::Gzip(9), Compression::default())
    );
    for store in &stores {
        store.options.validate().unwrap();
    }
}

#[test]
fn a_wrong_store_is_named_with_its_key() {
    for (keys, told) in [
        ("", "store.url: a table [[store]] has no url"),
        ("url = 'ftp://h'", "c.toml:2: store.url: "),
        ("url = 'memory://'", "c.toml:2: store.url: "),
        ("url = 's3://me:hunter2@b'", "c.toml:2: store.url: "),
        (
            "url = 's3://b'\nendpoint = 'http://h'",
            "c.toml:3: store.endpoint: ",
        ),
        (
            "url = 's3://b'\nendpoint = 'h:9000'",
            "c.toml:3: store.endpoint: ",
        ),
        (
            "url = 's3://b'\nkey_file_shared = true",
            "c.toml:3: store.key_file_shared: ",
        ),
        (
            "url = 's3://b'\ncompression = 'lz4'",
            "c.toml:3: store.compression: ",
        ),
        (
            "url = 's3://b'\ncredentials_profile = 'x'",
            "c.toml:3: store.credentials_profile: ",
        ),
        (
            "url = 's3://b'\ncredentials_file = ''",
            "c.toml:3: store.credentials_file: ",
        ),
        (
            "url = 's3://b'\nattempts_max = 0",
            "c.toml:3: store.attempts_max: 0 is not in 1 to 100",
        ),
        (
            "url = 's3://b'\nrequests_max = 1025",
            "c.toml:3: store.requests_max: ",
        ),
        (
            "url = 's3://b'\nsecret_key = 'x'",
            "c.toml:3: unknown key `secret_key`",
        ),
        (
            "url = 's3://b'\n[[store]]\nurl = 's3://b/'",
            "c.toml:4: store.url: another table",
        ),
    ] {
        let error = resolve(&format!("[[store]]\n{keys}\n")).unwrap_err().to_string();
        assert!(error.contains(told), "{keys}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let arguments = Arguments {
        data_dir: Some("flag".into()),
        nfs_listen: Some("127.0.0.1:5".parse().unwrap()),
        http_listen: Some("127.0.0.1:6".parse().unwrap()),
        rpc_socket: Some("/flag.sock".into()),
        log_format: Some(LogFormat::Json),
        log_level: Some(LogLevel::Error),
        ..Arguments::default()
    };
    let config = resolve_with(&everything(), &arguments).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/here/flag"));
    assert_eq!((config.nfs_listen.port(), config.http_listen.port()), (5, 6));
    assert_eq!(config.rpc_socket, PathBuf::from("/flag.sock"));
    assert_eq!(
        (config.log_format, config.log_level),
        (LogFormat::Json, LogLevel::Error)
    );
}

#[test]
fn the_socket_follows_the_data_directory() {
    assert_eq!(
        resolve("data_dir = '/d'").unwrap().rpc_socket,
        PathBuf::from("/d/cairnd.sock")
    );
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    for (text, line, key) in [
        ("\ndatadir = '/d'\n", 2, "datadir"),
        ("[nfs]\n\nlsten = '127.0.0.1:1'\n", 3, "lsten"),
        ("[log]\nlevel = 'info'\n[nsf]\nlisten = '127.0.0.1:1'\n", 3, "nsf"),
        ("log.colour = true\n", 1, "colour"),
    ] {
        let error = resolve(text).unwrap_err();
        let ConfigError::Malformed { place, message } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*place, Place::Line("c.toml".into(), line), "{error}");
        assert!(
            message.starts_with(&format!("unknown key `{key}`, expected")),
            "{error}"
        );
    }
}

#[test]
fn bad_values_are_named_with_their_line() {
    for text in [
        "\nnfs.listen = 'localhost:1'",
        "\nnfs.listen = 12049",
        "\nhttp.listen = '127.0.0.1'",
        "\nrpc.requests_max = 0",
        "\nrpc.requests_max = -1",
        "\nrpc.requests_max = 257",
        "\nrpc.socket = ''",
        "\ndata_dir = ''",
        "\ndata_dir = 1",
        "\nmetadata.cache_bytes = '1023KiB'",
        "\nmetadata.cache_bytes = 'much'",
        "\nmetadata.write_buffer_bytes = 0",
        "\nnfs.connections_max = 0",
        "\nnfs.threads_max = 1025",
        "\nnfs.memory_bytes_max = '4GiB'",
        "\ncontent.segment_bytes = '2GiB'",
        "\ncontent.segment_bytes = -5",
        "\nlimits.disk_reserve_bytes = 0",
        "\nlimits.shutdown_seconds = 0",
        "\ndirectories.roots = ['data']",
        "\ndirectories.roots = '/data'",
        "\ndirectories.jobs_max = 0",
        "\ndirectories.verify_again_days = 5000",
        "\nlog.format = 'xml'",
        "\nlog.level = 'INFO'",
        "\nlog.level = 'info'\nlog.level = 'info'",
        "\nlog = ",
    ] {
        let error = resolve(text).unwrap_err();
        assert!(
            error.to_string().starts_with("c.toml:2: ") || error.to_string().starts_with("c.toml:3: "),
            "{text:?}: {error}"
        );
    }
    assert_eq!(
        resolve("\ncontent.segment_bytes = '2GiB'")
            .unwrap_err()
            .to_string(),
        "c.toml:2: content.segment_bytes: 2GiB is not in 8MiB to 1GiB"
    );
}

#[test]
fn a_socket_path_that_cannot_be_bound_is_refused() {
    let long = "x".repeat(108);
    let error = resolve(&format!("\nrpc.socket = '/{long}'")).unwrap_err();
    assert!(error.to_string().starts_with("c.toml:2: rpc.socket: "), "{error}");
    let error = resolve(&format!("data_dir = '/{long}'")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("default configuration: rpc.socket: "),
        "{error}"
    );
}

#[test]
fn a_missing_file_and_a_missing_home_are_errors() {
    let arguments = Arguments {
        config: Some("/nonexistent/cairnd.toml".into()),
        ..Arguments::default()
    };
    let error = Config::load(&arguments, &environment()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error:?}");
    let error = Config::load(&Arguments::default(), &Environment::default()).unwrap_err();
    assert!(
        matches!(error, ConfigError::BadValue { key: "data_dir", .. }),
        "{error:?}"
    );
}
