//! Tables: objects in, steps and conditions out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_crds::{DittoServer, conditions, names};
use cairn_types::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::{DittoDecision, Done, Object, Observed, PodView, Role, Step, decide};
use crate::children::ditto::{CONFIG_HASH, DittoSettings, config};
use crate::plan::Child;

fn server(spec: Value) -> DittoServer {
    let mut object = json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
        "metadata": {"name": "my", "namespace": "team", "uid": "u-1", "generation": 3, "finalizers": [names::DITTO_FINALIZER]},
        "spec": {"storage": {"metadataSize": "10Gi"}},
    });
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn observe(spec: Value) -> Observed {
    Observed {
        server: Arc::new(server(spec)),
        now: Timestamp::new(1_795_219_200, 0),
        settings: DittoSettings {
            image: "registry.example/cairnd:1".to_owned(),
            namespace: "cairn-system".to_owned(),
            client: "cairn-operator.cairn-system.svc".to_owned(),
            clients: vec!["10.0.0.0/8".to_owned()],
            signs: true,
        },
        config: Child::Absent,
        set: Child::Absent,
        service: Child::Absent,
        claim: Child::Absent,
        pod: None,
        class_is_missing: false,
        present: BTreeSet::new(),
        has_monitors: false,
        info: None,
        answers: BTreeMap::new(),
        done: BTreeSet::new(),
        failure: None,
        certificate: None,
    }
}

/// Every step until there is none, as if each were done.
fn steps(observed: &mut Observed) -> (Vec<Step>, DittoDecision) {
    let mut steps = Vec::new();
    loop {
        let decision = decide(observed);
        let Some(step) = decision.step.clone() else {
            return (steps, decision);
        };
        observed.done.insert(step.done());
        if let Step::EnsureShare { share, .. } = &step {
            let managed = cairn_api::proto::ManagedWorkspace {
                state: cairn_api::proto::ManagedState::Ready.into(),
                export_path: "/export".to_owned(),
                ..Default::default()
            };
            observed.answers.insert(share.clone(), Ok(Arc::new(managed)));
        }
        steps.push(step);
    }
}

fn object(steps: &[Step], role: Role) -> Option<Value> {
    steps.iter().find_map(|step| match step {
        Step::Apply(object) if object.role() == role => Some(match object {
            Object::Config(object) => serde_json::to_value(object).unwrap(),
            Object::Headless(object) | Object::Nfs(object) | Object::Metrics(object) => {
                serde_json::to_value(object).unwrap()
            }
            Object::Set(object) => serde_json::to_value(object).unwrap(),
            Object::Budget(object) => serde_json::to_value(object).unwrap(),
            Object::Policy(object) => serde_json::to_value(object).unwrap(),
            Object::Monitor(object) => serde_json::to_value(object).unwrap(),
        }),
        _ => None,
    })
}

fn reason(decision: &DittoDecision, type_: &str) -> (String, String) {
    let found = conditions::find(&decision.status.conditions, type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

fn claim(size: &str, phase: &str) -> Child<PersistentVolumeClaim> {
    let claim = json!({
        "metadata": {"name": "data-my-0", "namespace": "team"},
        "spec": {"resources": {"requests": {"storage": size}}},
        "status": {"phase": phase},
    });
    Child::Ours(Arc::new(serde_json::from_value(claim).unwrap()))
}

#[test]
fn the_children_are_made_and_the_policy_comes_before_the_pod() {
    let mut observed = observe(
        json!({"storage": {"metadataSize": "10Gi", "contentSize": "90Gi"}, "nfsPort": 2049,
        "config": {"shares": [{"name": "a", "exportPath": "/a", "allowedClients": ["192.168.7.0/24"]}]}}),
    );
    let (steps, decision) = steps(&mut observed);
    assert_eq!(steps[0], Step::KeepCertificate);
    let roles: Vec<Done> = steps.iter().skip(1).map(Step::done).collect();
    let expected = [
        Role::Config,
        Role::Policy,
        Role::Headless,
        Role::Nfs,
        Role::Budget,
        Role::Set,
    ];
    assert_eq!(roles, expected.map(Done::Applied));
    let set = object(&steps, Role::Set).unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(
        pod["containers"][0]["securityContext"]["capabilities"]["drop"][0],
        "ALL"
    );
    assert_eq!(
        pod["containers"][0]["readinessProbe"]["httpGet"]["path"],
        "/readyz"
    );
    assert_eq!(pod["terminationGracePeriodSeconds"], 65);
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "u-1");
    let template = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(template["spec"]["resources"]["requests"]["storage"], "100Gi");
    assert!(template["metadata"].get("ownerReferences").is_none());
    let ports = &object(&steps, Role::Nfs).unwrap()["spec"]["ports"][0];
    assert_eq!(
        (&ports["port"], &ports["targetPort"]),
        (&json!(2049), &json!(12049))
    );
    let rules = object(&steps, Role::Policy).unwrap()["spec"]["ingress"].clone();
    assert_eq!(rules[0]["from"][0]["ipBlock"]["cidr"], "192.168.7.0/24");
    let mut rules = rules.as_array().unwrap().iter();
    assert!(rules.all(|rule| !rule["from"].as_array().unwrap().is_empty()));
    assert_eq!(
        reason(&decision, "Ready"),
        ("False".to_owned(), "Starting".to_owned())
    );
    assert_eq!(reason(&decision, "Progressing").0, "True");
}

#[test]
fn only_what_needs_a_restart_changes_the_pod() {
    let base = json!({"config": {"shares": [{"name": "a", "exportPath": "/a"}]}});
    let template = |spec: Value| {
        let mut merged = base.clone();
        for (name, value) in spec.as_object().unwrap() {
            merged[name] = value.clone();
        }
        let set = object(&steps(&mut observe(merged)).0, Role::Set).unwrap();
        set["spec"]["template"].clone()
    };
    let first = template(json!({}));
    for same in [
        json!({"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}}),
        json!({"nfsPort": 2049}),
        json!({"config": {"shares": [{"name": "b", "exportPath": "/b", "readOnly": true}]}}),
        json!({"metrics": {"enabled": true, "port": 9999}}),
        json!({"snapshotPolicies": [{"share": "a", "interval": "1h"}]}),
        json!({"storage": {"metadataSize": "20Gi"}}),
        json!({"deletionPolicy": "Delete"}),
        json!({"networkPolicy": {"enabled": false}}),
        json!({"tls": {}}),
    ] {
        assert_eq!(template(same.clone()), first, "{same}");
    }
    for other in [
        json!({"logging": {"level": "debug"}}),
        json!({"image": "registry.example/cairnd:2"}),
        json!({"resources": {"limits": {"memory": "1Gi"}}}),
        json!({"tls": {"secretName": "own"}}),
    ] {
        assert_ne!(template(other.clone()), first, "{other}");
    }
    let hash = |template: &Value| template["metadata"]["annotations"][CONFIG_HASH].clone();
    assert_ne!(
        hash(&template(json!({"logging": {"level": "debug"}}))),
        hash(&first)
    );
    assert_eq!(hash(&template(json!({"image": "x/cairnd:2"}))), hash(&first));
}

#[test]
fn more_servers_than_one_are_refused_and_nothing_is_changed() {
    let (steps, decision) = steps(&mut observe(json!({"replicas": 3})));
    assert_eq!(steps, []);
    for (type_, status) in [
        ("Ready", "False"),
        ("FieldsSupported", "False"),
        ("Degraded", "True"),
    ] {
        assert_eq!(
            reason(&decision, type_),
            (status.to_owned(), "ReplicasUnsupported".to_owned())
        );
    }
    assert!(decision.status.message.unwrap().contains("give 1"));
}

#[test]
fn claims_grow_and_never_shrink() {
    let mut observed = observe(json!({"storage": {"metadataSize": "20Gi"}}));
    observed.claim = claim("10Gi", "Bound");
    let (found, _) = steps(&mut observed);
    assert!(found.contains(&Step::GrowClaim {
        size: "20Gi".to_owned()
    }));
    observed.claim = claim("30Gi", "Bound");
    observed.done.clear();
    let (found, decision) = steps(&mut observed);
    assert!(!found.iter().any(|step| matches!(step, Step::GrowClaim { .. })));
    assert_eq!(reason(&decision, "ConfigReady").1, "ShrinkRefused");
}

#[test]
fn what_keeps_a_pod_from_starting_is_told() {
    for (trouble, type_, expected) in [
        ("ImagePullBackOff", "Degraded", "ImagePullBackOff"),
        ("CrashLoopBackOff", "Degraded", "CrashLoopBackOff"),
        ("CreateContainerConfigError", "ConfigReady", "SecretMissing"),
        ("Unschedulable", "Ready", "Unschedulable"),
        ("VolumesNotMounted", "ConfigReady", "VolumesNotMounted"),
    ] {
        let mut observed = observe(json!({}));
        observed.pod = Some(PodView {
            name: "my-0".to_owned(),
            trouble: Some((trouble.to_owned(), "secret \"s\" not found".to_owned())),
            ..PodView::default()
        });
        let (_, decision) = steps(&mut observed);
        assert_eq!(reason(&decision, type_).1, expected);
        assert_eq!(
            decision.status.phase,
            Some(cairn_crds::ditto_server::DittoPhase::Failed)
        );
    }
    let mut observed = observe(json!({"storage": {"metadataSize": "1Gi", "storageClassName": "fast"}}));
    observed.claim = claim("1Gi", "Pending");
    observed.class_is_missing = true;
    assert_eq!(reason(&steps(&mut observed).1, "Ready").1, "StorageClassMissing");
}

#[test]
fn the_certificate_is_the_operators_or_the_one_that_is_named() {
    let secret = |observed: &mut Observed| {
        let (found, decision) = steps(observed);
        let set = object(&found, Role::Set).unwrap();
        let volumes = set["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap()
            .clone();
        let tls = volumes.iter().find(|volume| volume["name"] == "tls").unwrap();
        let name = tls["secret"]["secretName"].as_str().unwrap().to_owned();
        (name, found.contains(&Step::KeepCertificate), decision)
    };
    let (name, kept, _) = secret(&mut observe(json!({})));
    assert_eq!((name.as_str(), kept), ("cairn-ditto-tls", true));
    let (name, kept, _) = secret(&mut observe(json!({"tls": {"secretName": "own"}})));
    assert_eq!((name.as_str(), kept), ("own", false));
    let mut observed = observe(json!({}));
    observed.settings.signs = false;
    let (name, kept, _) = secret(&mut observed);
    assert_eq!((name.as_str(), kept), ("my-tls", false));
    // What keeps it from being there is told, and stops nothing else.
    let mut observed = observe(json!({}));
    observed.certificate = Some(crate::plan::Failure {
        reason: "CertificateNotKept".to_owned(),
        message: "forbidden".to_owned(),
        kind: crate::plan::FailureKind::Refused,
    });
    let (_, _, decision) = secret(&mut observed);
    assert_eq!(
        reason(&decision, "Ready"),
        ("False".to_owned(), "CertificateNotKept".to_owned())
    );
    assert!(decision.status.message.unwrap().contains("spec.tls.secretName"));
    assert_eq!(decision.again, crate::plan::Again::Seconds(super::LOOK_SECONDS));
}

#[test]
fn a_pod_leaves_in_order_before_it_is_replaced() {
    let pod = |spec: Value| {
        let set = object(&steps(&mut observe(spec)).0, Role::Set).unwrap();
        set["spec"]["template"]["spec"].clone()
    };
    let by_default = pod(json!({}));
    assert_eq!(
        by_default["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"],
        5
    );
    // Before the signal, for running requests, and to close the stores.
    assert_eq!(by_default["terminationGracePeriodSeconds"], 65);
    let longer = pod(json!({"terminationGracePeriodSeconds": 600}));
    assert_eq!(longer["terminationGracePeriodSeconds"], 600);
    let set = object(
        &steps(&mut observe(json!({"terminationGracePeriodSeconds": 600}))).0,
        Role::Config,
    );
    assert!(
        set.unwrap()["data"]["cairnd.toml"]
            .as_str()
            .unwrap()
            .contains("shutdown_seconds = 584")
    );
}

#[test]
fn shares_are_asked_of_a_running_daemon_and_withdrawn_from_everybody() {
    let shares = json!({"config": {"shares": [{"name": "a", "exportPath": "/export",
        "rootDirectoryAttributes": {"mode": "0700", "uid": 7, "gid": 8}}]}});
    let mut observed = observe(shares.clone());
    observed.pod = Some(PodView {
        is_ready: true,
        ..PodView::default()
    });
    let (found, decision) = steps(&mut observed);
    let asked = |steps: &[Step]| {
        steps.iter().find_map(|step| match step {
            Step::EnsureShare { request, .. } => Some(request.clone()),
            _ => None,
        })
    };
    let request = asked(&found).unwrap();
    assert_eq!(
        (request.name.as_str(), request.uid, request.mode),
        ("export", 7, Some(0o700))
    );
    assert_eq!(request.key, "ditto/team/my/a");
    assert!(decision.status.shares[0].ready);
    // Another DittoServer without it, which remembers what it was made with.
    let record = config::config_map(&server(shares), String::new(), &super::shares::record(&observed));
    let mut without = server(json!({}));
    without.status = Some(decision.status);
    let mut observed = observe(json!({}));
    observed.server = Arc::new(without);
    observed.config = Child::Ours(Arc::new(record));
    observed.pod = Some(PodView {
        is_ready: true,
        ..PodView::default()
    });
    let (found, decision) = steps(&mut observed);
    let request = asked(&found).unwrap();
    assert_eq!((request.uid, request.mode), (7, Some(0o700)));
    assert!(request.export.unwrap().allow.is_empty());
    assert_eq!(decision.status.shares, []);
}

#[test]
fn fields_that_cannot_be_honoured_are_named() {
    let (_, decision) = steps(&mut observe(json!({"image": "ghcr.io/marmos91/dittofs:latest",
        "snapshotPolicies": [{"share": "a", "interval": "1h"}]})));
    let told = conditions::find(&decision.status.conditions, "FieldsSupported").unwrap();
    assert_eq!(told.status, "False");
    assert!(told.message.contains("DittoFS") && told.message.contains("snapshotPolicies"));
}

#[test]
fn the_claim_goes_only_if_asked_for_and_after_the_pod() {
    for (policy, expected) in [
        ("Retain", vec![Step::RemoveFinalizer]),
        ("Delete", vec![Step::DeleteClaim, Step::RemoveFinalizer]),
    ] {
        let mut observed = observe(json!({}));
        let mut gone = server(json!({"deletionPolicy": policy}));
        gone.metadata.deletion_timestamp = Some(crate::runtime::clock::time(Timestamp::new(1, 0)));
        observed.server = Arc::new(gone);
        observed.claim = claim("10Gi", "Bound");
        let mut found = Vec::new();
        while let Some(step) = decide(&observed).step {
            observed.done.insert(step.done());
            let is_end = step == Step::RemoveFinalizer;
            found.push(step);
            if is_end {
                break;
            }
        }
        assert_eq!(found, expected);
        if policy == "Delete" {
            observed.done.clear();
            observed.pod = Some(PodView::default());
            assert_eq!(decide(&observed).step, None);
        }
    }
}
