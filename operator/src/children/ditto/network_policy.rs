//! Who can reach a DittoServer: the networks of its shares, the operator, and who reads metrics. Everybody else cannot, nor from anywhere else.
//!
//! Invariant: no rule without sources. An empty list of sources would be everybody (NetworkPolicy, `ingress.from`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use cairn_crds::DittoServer;
use cairn_crds::ditto_server::Share;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{DittoSettings, HTTP_PORT, NFS_PORT, RPC_PORT, child, match_labels};

/// Most networks of one share, after what is denied has been cut out (the daemon's own bound).
pub const NETWORKS_MAX: usize = cairn_types::ExportPolicy::ALLOW_MAX;

/// A network, or one address.
fn network(text: &str) -> Option<IpNet> {
    let whole = text.parse::<IpNet>().ok().map(|network| network.trunc());
    whole.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `from` without `denied`.
fn without(from: IpNet, denied: &IpNet, rest: &mut Vec<IpNet>) {
    if denied.contains(&from) {
        return;
    }
    if !from.contains(denied) {
        rest.push(from);
        return;
    }
    // Halves, of which one has what is denied: at most as deep as an address has bits.
    if let Ok(halves) = from.subnets(from.prefix_len() + 1) {
        for half in halves {
            without(half, denied, rest);
        }
    }
}

/// The networks that may mount a share: those that are allowed, without those that are denied. Errors: a text is no network; they are too many; what to do.
pub fn clients(share: &Share, settings: &DittoSettings) -> Result<Vec<String>, String> {
    let allowed = match share.allowed_clients.is_empty() {
        true => &settings.clients,
        false => &share.allowed_clients,
    };
    let read = |texts: &[String]| -> Result<Vec<IpNet>, String> {
        let read =
            |text: &String| network(text).ok_or_else(|| format!("{text:?} is no network and no address"));
        texts.iter().map(read).collect()
    };
    let mut networks = read(allowed)?;
    for denied in read(&share.denied_clients)? {
        let mut rest = Vec::new();
        for network in networks {
            without(network, &denied, &mut rest);
        }
        if rest.len() > NETWORKS_MAX {
            return Err(format!(
                "allowedClients without deniedClients are {} networks, and there can be {NETWORKS_MAX}: deny whole networks",
                rest.len()
            ));
        }
        networks = rest;
    }
    Ok(networks.iter().map(ToString::to_string).collect())
}

fn rule(port: u16, from: Vec<NetworkPolicyPeer>) -> Option<NetworkPolicyIngressRule> {
    if from.is_empty() {
        return None;
    }
    Some(NetworkPolicyIngressRule {
        from: Some(from),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(i32::from(port))),
            protocol: Some("TCP".to_owned()),
            ..NetworkPolicyPort::default()
        }]),
    })
}

fn namespace(labels: Option<(&str, &str)>) -> NetworkPolicyPeer {
    let labels = labels.map(|(name, value)| [(name.to_owned(), value.to_owned())].into());
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: labels,
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}

/// The policy; nothing if it is not wanted. Probes come from the node of the pod, which every implementation lets in.
pub fn policy(server: &DittoServer, settings: &DittoSettings) -> Option<NetworkPolicy> {
    let spec = &server.spec;
    if !spec.network_policy.clone().unwrap_or_default().enabled {
        return None;
    }
    let shares = spec.config.as_ref().map(|config| &config.shares[..]);
    let networks: BTreeSet<String> = shares
        .unwrap_or_default()
        .iter()
        .filter_map(|share| clients(share, settings).ok())
        .flatten()
        .collect();
    let clients = networks.into_iter().map(|cidr| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr, except: None }),
        ..NetworkPolicyPeer::default()
    });
    let has_metrics = spec.metrics.as_ref().is_some_and(|metrics| metrics.enabled);
    let operator = namespace(Some(("kubernetes.io/metadata.name", &settings.namespace)));
    let rules = [
        rule(NFS_PORT, clients.collect()),
        rule(RPC_PORT, vec![operator]),
        // From any pod of the cluster, and from nowhere else.
        has_metrics
            .then(|| rule(HTTP_PORT, vec![namespace(None)]))
            .flatten(),
    ];
    Some(NetworkPolicy {
        metadata: child(server, server.name_any()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(match_labels(&server.name_any())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules.into_iter().flatten().collect()),
            ..NetworkPolicySpec::default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::{clients, network, without};
    use crate::children::ditto::DittoSettings;
    use cairn_crds::ditto_server::Share;

    fn share(allowed: &[&str], denied: &[&str]) -> Share {
        let lists = serde_json::json!({"name": "s", "allowedClients": allowed, "deniedClients": denied});
        serde_json::from_value(lists).unwrap()
    }

    #[test]
    fn what_is_denied_is_cut_out() {
        let settings = DittoSettings {
            image: String::new(),
            namespace: String::new(),
            client: String::new(),
            clients: vec!["10.0.0.0/8".to_owned()],
            signs: true,
        };
        for (allowed, denied, expected) in [
            (&[][..], &[][..], &["10.0.0.0/8"][..]),
            (&["10.1.2.3"], &[], &["10.1.2.3/32"]),
            (
                &["192.168.0.0/30"],
                &["192.168.0.1"],
                &["192.168.0.0/32", "192.168.0.2/31"],
            ),
            (&["192.168.0.0/24"], &["192.168.0.0/16"], &[]),
            (&["fd00::/8"], &["10.0.0.0/8"], &["fd00::/8"]),
        ] {
            assert_eq!(clients(&share(allowed, denied), &settings).unwrap(), expected);
        }
        assert!(clients(&share(&["everybody"], &[]), &settings).is_err());
        let many: Vec<String> = (0..20).map(|n| format!("10.{n}.3.1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(
            clients(&share(&[], &many), &settings)
                .unwrap_err()
                .contains("256")
        );
    }

    #[test]
    fn the_rest_is_what_was_there_without_the_address() {
        let (all, one) = (network("0.0.0.0/0").unwrap(), network("10.1.2.3").unwrap());
        let mut rest = Vec::new();
        without(all, &one, &mut rest);
        assert_eq!(rest.len(), 32);
        assert!(rest.iter().all(|network| !network.contains(&one)));
    }
}
