//! Snapshots that travel: from a workspace into a store in a directory and back, between daemons, through kills, damage and
//! cancellation; every byte compared.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_e2e::client::{Client, ClientSettings, Handle};
use cairn_e2e::fixture::assert_same;
use cairn_e2e::sample;
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::{Tree, remote};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::harness::{Daemon, cairnd, directory, listing};

/// What clients of a test need.
const ANY_PORT: &str = "--any-port";

/// A place for a test: a daemon, a store, local trees.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place {
            directory: directory(),
        };
        fs::create_dir(place.path("store")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn daemon(&self, name: &str) -> Daemon {
        Daemon::start(&self.path(name))
    }

    fn store(&self) -> String {
        format!("file://{}", self.path("store").display())
    }

    fn local(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn over_nfs<T>(work: impl Future<Output = anyhow::Result<T>>) -> T {
    work.await.unwrap()
}

async fn mount(daemon: &Daemon, workspace: &str) -> anyhow::Result<(Arc<Client>, Handle)> {
    let client = Client::connect(daemon.nfs, ClientSettings::default()).await?;
    let root = client.mount(&format!("/{workspace}")).await?;
    Ok((client, root))
}

fn fill(daemon: &Daemon, workspace: &str, tree: &Tree) {
    over_nfs(async {
        let (client, root) = mount(daemon, workspace).await?;
        copy_in(tree, &client, &root, &|_| {}).await?;
        Ok(())
    });
}

#[track_caller]
fn assert_holds(daemon: &Daemon, workspace: &str, tree: &Tree) {
    over_nfs(async {
        let (client, root) = mount(daemon, workspace).await?;
        assert_same(tree, &remote::list(&client, &root).await?, workspace).await
    });
}

/// Fails unless two workspaces, perhaps of two daemons, are the same tree.
#[track_caller]
fn assert_same_workspaces(expected: (&Daemon, &str), found: (&Daemon, &str)) {
    over_nfs(async {
        let (client, root) = mount(expected.0, expected.1).await?;
        let tree = remote::list(&client, &root).await?;
        let (client, root) = mount(found.0, found.1).await?;
        assert_same(&tree, &remote::list(&client, &root).await?, found.1).await
    });
}

fn workspace(daemon: &Daemon, name: &str) {
    daemon.json(&["workspace", "create", name, ANY_PORT]);
}

/// All packs of a store.
fn packs(store: &Path) -> Vec<PathBuf> {
    let Ok(_) = fs::read_dir(store.join("packs")) else {
        return Vec::new();
    };
    let all = listing(&store.join("packs"));
    all.into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn a_snapshot_travels_to_another_node_and_back() {
    let place = Place::new();
    let (store, first) = (place.store(), place.daemon("first"));
    workspace(&first, "w");
    let odd = sample::odd(&place.local("odd")).unwrap();
    fill(&first, "w", &odd);
    let v1 = first.json(&["snapshot", "w", "--tag", "v1", "--note", "odd things"]);
    let pushed = first.json(&["push", "w@v1", &store]);
    assert_eq!(
        (&pushed["state"], &pushed["result"]["already_there"]),
        (&json!("succeeded"), &json!(false))
    );
    assert_eq!(pushed["result"]["archive"]["snapshot"], v1["id"]);
    // Again, nothing is done.
    let before = listing(&place.path("store"));
    assert_eq!(
        first.json(&["push", "w@v1", &store])["result"]["already_there"],
        true
    );
    assert_eq!(listing(&place.path("store")), before);

    // Another node reads the store that it does not own.
    let second = place.daemon("second");
    let listed = second.json(&["archive", "list", &store]);
    assert_eq!(listed["archives"][0], pushed["result"]["archive"]);
    assert_eq!(listed["archives"][0]["note"], "odd things");
    let pulled = second.json(&["pull", &format!("{store}@v1"), "copy", ANY_PORT]);
    assert_eq!(
        (&pulled["result"]["resumed"], &pulled["result"]["snapshot"]),
        (&json!(false), &v1["id"])
    );
    assert_holds(&second, "copy", &odd);
    let history = second.json(&["history", "copy"]);
    assert_eq!(
        (
            &history["snapshots"][0]["id"],
            &history["snapshots"][0]["tags"],
            &history["snapshots"][0]["created"]
        ),
        (&v1["id"], &json!(["v1"]), &v1["created"])
    );
    // It may not push; when it owns the store, what it has in common with it is not sent again.
    let more = sample::many(&place.local("more"), 3, 20).unwrap();
    fill(&second, "copy", &more);
    second.json(&["snapshot", "copy", "--tag", "v2"]);
    let refused = second.cairn(&["push", "copy@v2", &store, "--json"]);
    assert_eq!(
        (refused.code, refused.error()["reason"].as_str()),
        (4, Some("STORE_FOREIGN")),
        "{refused:?}"
    );
    second.json(&["archive", "take-over", &store, "--yes"]);
    let pushed = second.json(&["push", "copy@v2", &store]);
    assert_eq!(pushed["result"]["archive"]["base"], v1["id"]);
    assert!(
        pushed["result"]["bytes_read"].as_u64() <= Some(more.totals().bytes),
        "{pushed}"
    );

    // Back, into the workspace that it came from.
    let restored = first.json(&["pull", &store, "w", "--into-existing"]);
    assert_same_workspaces((&second, "copy"), (&first, "w"));
    let safety = restored["result"]["safety"].as_str().unwrap();
    first.json(&["restore", "w", safety]);
    assert_holds(&first, "w", &odd);
    assert_eq!((first.stop(), second.stop()), (0, 0));
}

#[test]
fn what_is_deleted_is_reclaimed_and_what_is_left_is_whole() {
    let place = Place::new();
    let (store, daemon) = (place.store(), place.daemon("data"));
    for (name, seed) in [("a", 1), ("b", 2)] {
        workspace(&daemon, name);
        fill(
            &daemon,
            name,
            &sample::many(&place.local(name), seed, 40).unwrap(),
        );
        daemon.json(&["snapshot", name, "--tag", name]);
        daemon.json(&["push", name, &store]);
    }
    let sizes = daemon.json(&["archive", "show", &store, "a", "--sizes"]);
    assert!(sizes["sizes"]["unique_bytes"].as_u64() > Some(1 << 20), "{sizes}");
    let verified = daemon.json(&["archive", "verify", &store, "--deep"]);
    assert_eq!(
        (
            &verified["result"]["archives_sound"],
            &verified["result"]["damages"]
        ),
        (&json!(2), &json!(0))
    );
    let deleted = daemon.json(&["archive", "delete", &store, "a", "--yes"]);
    assert_eq!(deleted["deleted"][0]["tags"], json!(["a"]));
    let many = packs(&place.path("store")).len();
    let dry = daemon.cairn(&["archive", "reclaim", &store, "--dry-run"]);
    assert!(
        dry.stdout.contains("condemn ") && dry.stdout.contains("would remove"),
        "{dry:?}"
    );
    assert_eq!(packs(&place.path("store")).len(), many);
    // The first run condemns, a later one removes.
    assert_eq!(
        daemon
            .cairn(&["archive", "reclaim", &store, "--grace", "0s"])
            .code,
        0
    );
    assert_eq!(
        daemon
            .cairn(&["archive", "reclaim", &store, "--grace", "0s"])
            .code,
        0
    );
    assert!(packs(&place.path("store")).len() < many);
    assert_eq!(daemon.cairn(&["archive", "verify", &store, "--deep"]).code, 0);
    daemon.json(&["pull", &format!("{store}@b"), "back", ANY_PORT]);
    assert_same_workspaces((&daemon, "b"), (&daemon, "back"));
    let gone = daemon.cairn(&["pull", &format!("{store}@a"), "gone", "--json"]);
    assert_eq!(
        (gone.code, gone.error()["reason"].as_str()),
        (3, Some("ARCHIVE_NOT_FOUND")),
        "{gone:?}"
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn damage_is_found_told_and_never_pulled() {
    let place = Place::new();
    let (store, daemon) = (place.store(), place.daemon("data"));
    workspace(&daemon, "w");
    fill(&daemon, "w", &sample::many(&place.local("w"), 5, 40).unwrap());
    daemon.json(&["snapshot", "w"]);
    daemon.json(&["push", "w", &store]);
    // A bit in the middle of the largest pack, which is one of data.
    let pack = packs(&place.path("store"))
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    let verified = daemon.cairn(&["archive", "verify", &store, "--deep", "--json"]);
    assert_eq!(verified.code, 10, "{verified:?}");
    let lines: Vec<Value> = verified
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, damages) = lines.split_last().unwrap();
    assert_eq!(last["result"]["archives_sound"], 0);
    assert_eq!(last["result"]["damages"].as_u64(), Some(damages.len() as u64));
    let name = pack.file_name().unwrap().to_str().unwrap();
    assert!(
        damages
            .iter()
            .any(|damage| damage["damage"]["object"].as_str().unwrap().ends_with(name)),
        "{damages:?}"
    );
    let pulled = daemon.cairn(&["pull", &store, "copy", "--json"]);
    assert_eq!(
        (pulled.code, pulled.error()["reason"].as_str()),
        (10, Some("ARCHIVE_DAMAGED")),
        "{pulled:?}"
    );
    // Nothing of it can be seen.
    assert_eq!(daemon.cairn(&["workspace", "show", "copy"]).code, 3);
    // What is sound comes back when it is asked for, and what does not is told.
    let arguments = ["pull", &store, "rest", "--skip-damaged", ANY_PORT, "--json"];
    let pulled = daemon.cairn(&arguments);
    assert_eq!(pulled.code, 10, "{pulled:?}");
    let lines: Vec<Value> = pulled
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, damages) = lines.split_last().unwrap();
    let left_out = last["result"]["left_out"].as_u64().unwrap();
    assert!((1..40).contains(&left_out), "{last}");
    assert_eq!(left_out, damages.len() as u64);
    assert!(
        damages.iter().all(|found| !found["damage"]["path"].is_null()),
        "{damages:?}"
    );
    let rest = daemon.json(&["workspace", "show", "rest"]);
    let whole = daemon.json(&["workspace", "show", "w"]);
    assert_eq!(
        rest["inodes"].as_u64().unwrap() + left_out,
        whole["inodes"].as_u64().unwrap()
    );
    // When the bit is back, so is everything; what was written before is used.
    bytes[middle] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    daemon.json(&["pull", &store, "copy", ANY_PORT]);
    assert_same_workspaces((&daemon, "w"), (&daemon, "copy"));
    assert_eq!(daemon.stop(), 0);
}

/// Waits until an operation has ended; gives it.
fn ended(daemon: &Daemon, id: &str) -> Value {
    daemon.cairn(&["operation", "watch", id]);
    daemon.json(&["operation", "show", id])
}

#[test]
fn a_cancelled_push_goes_on_when_it_is_asked_for_again() {
    let place = Place::new();
    let (store, daemon) = (place.store(), place.daemon("data"));
    workspace(&daemon, "w");
    fill(&daemon, "w", &sample::many(&place.local("w"), 7, 400).unwrap());
    daemon.json(&["snapshot", "w"]);
    let begun = daemon.json(&["push", "w", &store, "--detach"]);
    let id = begun["id"].as_str().unwrap();
    // The same again is the same.
    assert_eq!(daemon.json(&["push", "w", &store, "--detach"])["id"], id);
    daemon.json(&["operation", "cancel", id]);
    let found = ended(&daemon, id);
    assert!(
        ["cancelled", "succeeded"].contains(&found["state"].as_str().unwrap()),
        "{found}"
    );
    let again = daemon.json(&["push", "w", &store]);
    assert_eq!(again["state"], "succeeded");
    assert_eq!(
        daemon.json(&["archive", "verify", &store, "--deep"])["result"]["archives_sound"],
        1
    );
    let begun = daemon.json(&["pull", &store, "copy", ANY_PORT, "--detach"]);
    let id = begun["id"].as_str().unwrap();
    daemon.json(&["operation", "cancel", id]);
    let found = ended(&daemon, id);
    if found["state"] == "cancelled" {
        assert_eq!(daemon.cairn(&["workspace", "show", "copy"]).code, 3);
        daemon.json(&["pull", &store, "copy", ANY_PORT]);
    }
    assert_same_workspaces((&daemon, "w"), (&daemon, "copy"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_kill_during_push_and_pull_loses_nothing_and_shows_nothing() {
    let place = Place::new();
    let store = place.store();
    let mut daemon = place.daemon("data");
    workspace(&daemon, "w");
    let source = sample::many(&place.local("w"), 9, 400).unwrap();
    fill(&daemon, "w", &source);
    daemon.json(&["snapshot", "w"]);
    for _ in 0..3 {
        daemon.json(&["push", "w", &store, "--detach"]);
        daemon.signal(Signal::KILL);
        daemon.ended();
        daemon = place.daemon("data");
    }
    assert_eq!(daemon.json(&["push", "w", &store])["state"], "succeeded");
    assert_eq!(
        daemon.json(&["archive", "verify", &store, "--deep"])["result"]["archives_sound"],
        1
    );
    for _ in 0..3 {
        if daemon.cairn(&["workspace", "show", "copy"]).code == 0 {
            break;
        }
        daemon.json(&["pull", &store, "copy", ANY_PORT, "--detach"]);
        daemon.signal(Signal::KILL);
        daemon.ended();
        daemon = place.daemon("data");
    }
    // It is there as a whole, or not at all.
    if daemon.cairn(&["workspace", "show", "copy"]).code == 3 {
        daemon.json(&["pull", &store, "copy", ANY_PORT]);
    }
    assert_holds(&daemon, "copy", &source);
    assert_holds(&daemon, "w", &source);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_orderly_stop_cancels_what_runs() {
    let place = Place::new();
    let (store, daemon) = (place.store(), place.daemon("data"));
    workspace(&daemon, "w");
    fill(&daemon, "w", &sample::many(&place.local("w"), 11, 400).unwrap());
    daemon.json(&["snapshot", "w"]);
    daemon.json(&["push", "w", &store, "--detach"]);
    assert_eq!(daemon.stop(), 0);
    let daemon = place.daemon("data");
    assert_eq!(daemon.json(&["operation", "list"]), json!({ "operations": [] }));
    assert_eq!(daemon.json(&["push", "w", &store])["state"], "succeeded");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_encrypted_store_opens_with_its_key_only() {
    let place = Place::new();
    let store = place.store();
    let key = |name: &str, digits: &str| {
        let path = place.path(name);
        fs::write(&path, digits.repeat(16)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (old, new) = (key("old.key", "0a1b"), key("new.key", "2c3d"));
    let config = |name: &str, key: Option<&Path>| {
        let path = place.path(name);
        let line = key.map_or(String::new(), |key| format!("key_file = '{}'\n", key.display()));
        fs::write(&path, format!("[[store]]\nurl = '{store}'\n{line}")).unwrap();
        path
    };
    let start = |config: &Path| {
        let data = place.path("data");
        Daemon::start_with(&data, cairnd(&data).arg("--config").arg(config))
    };
    let refused = |daemon: &Daemon, arguments: &[&str], reason: &str| {
        let ended = daemon.cairn(&[arguments, &["--json"]].concat());
        assert_eq!(
            (ended.code, ended.error()["reason"].as_str()),
            (12, Some(reason)),
            "{ended:?}"
        );
    };
    let daemon = start(&config("old.toml", Some(&old)));
    workspace(&daemon, "w");
    let source = sample::many(&place.local("w"), 13, 30).unwrap();
    fill(&daemon, "w", &source);
    daemon.json(&["snapshot", "w"]);
    // Who has a key does not push without encryption by an oversight.
    refused(&daemon, &["push", "w", &store], "STORE_KEY_UNEXPECTED");
    assert_eq!(listing(&place.path("store")), []);
    daemon.json(&["archive", "init", &store, "--encrypt"]);
    daemon.json(&["push", "w", &store]);
    assert_eq!(
        daemon.json(&["archive", "verify", &store, "--deep"])["result"]["damages"],
        0
    );
    daemon.json(&["pull", &store, "copy", ANY_PORT]);
    assert_holds(&daemon, "copy", &source);
    daemon.json(&[
        "archive",
        "rotate-key",
        &store,
        "--new-key-file",
        new.to_str().unwrap(),
    ]);
    // It goes on with what it has open.
    assert_eq!(daemon.cairn(&["archive", "list", &store]).code, 0);
    assert_eq!(daemon.stop(), 0);

    let daemon = start(&config("old.toml", Some(&old)));
    refused(&daemon, &["archive", "list", &store], "STORE_KEY_WRONG");
    assert_eq!(daemon.stop(), 0);
    let daemon = start(&config("none.toml", None));
    refused(&daemon, &["pull", &store, "other"], "STORE_KEY_MISSING");
    assert_eq!(daemon.stop(), 0);
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    let daemon = start(&config("new.toml", Some(&new)));
    let ended = daemon.cairn(&["archive", "list", &store, "--json"]);
    assert_eq!(ended.error()["reason"], "STORE_OPTION_INVALID", "{ended:?}");
    // The file is looked at each time that the store is opened.
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    daemon.json(&["pull", &store, "again", ANY_PORT]);
    assert_holds(&daemon, "again", &source);
    assert_eq!(daemon.stop(), 0);
}
