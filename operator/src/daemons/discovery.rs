//! Which node's daemon answers where: read from the EndpointSlices of the daemons' headless Service. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Address;

/// The port's name in the Service.
pub const PORT_NAME: &str = "rpc";
/// Most nodes; more are left out, and the log says so.
pub const NODES_MAX: usize = 10_000;

/// Whether a slice is of the Service with this name.
pub fn is_of(slice: &EndpointSlice, service: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get("kubernetes.io/service-name"))
        .map(String::as_str)
        == Some(service)
}

/// The addresses of all daemons. Endpoints that are terminating count only if their node has no other; of two that serve, the ready one counts.
pub fn addresses(slices: &[Arc<EndpointSlice>]) -> BTreeMap<String, Address> {
    let mut found: BTreeMap<String, ((bool, bool), Address)> = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| {
            port.name.as_deref() == Some(PORT_NAME)
                || slice.ports.as_ref().is_some_and(|ports| ports.len() == 1)
        });
        let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let Some(node) = &endpoint.node_name else {
                continue;
            };
            let ip = endpoint
                .addresses
                .first()
                .and_then(|address| address.parse::<IpAddr>().ok());
            let Some(ip) = ip else { continue };
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let is_ready = conditions.ready.unwrap_or(true);
            let is_terminating = conditions.terminating.unwrap_or(false);
            let rank = (!is_terminating, is_ready);
            let address = Address { ip, port, is_ready };
            match found.get(node) {
                Some((best, _)) if *best >= rank => {}
                None if found.len() >= NODES_MAX => {
                    tracing::warn!(node, limit = NODES_MAX, "too many nodes: this one is left out");
                }
                _ => {
                    found.insert(node.clone(), (rank, address));
                }
            }
        }
    }
    found
        .into_iter()
        .map(|(node, (_, address))| (node, address))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::addresses;

    fn slice(text: &str) -> Arc<EndpointSlice> {
        Arc::new(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn each_node_has_its_best_endpoint() {
        let first = slice(
            r#"{"addressType":"IPv4","ports":[{"name":"nfs","port":2049},{"name":"rpc","port":7070}],"endpoints":[
            {"addresses":["10.0.0.1"],"nodeName":"a","conditions":{"ready":false,"terminating":true}},
            {"addresses":["10.0.0.2"],"nodeName":"b","conditions":{"ready":true}},
            {"addresses":["10.0.0.9"]},
            {"addresses":["nonsense"],"nodeName":"c"}]}"#,
        );
        let second = slice(
            r#"{"addressType":"IPv4","ports":[{"name":"rpc","port":7070}],"endpoints":[
            {"addresses":["10.0.0.3"],"nodeName":"a","conditions":{"ready":true}}]}"#,
        );
        let without_port =
            slice(r#"{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.4"],"nodeName":"d"}]}"#);
        let found = addresses(&[first, second, without_port]);
        let shown: Vec<String> = found
            .iter()
            .map(|(node, address)| format!("{node} {}:{} {}", address.ip, address.port, address.is_ready))
            .collect();
        assert_eq!(shown, ["a 10.0.0.3:7070 true", "b 10.0.0.2:7070 true"]);
    }
}
