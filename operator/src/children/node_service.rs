//! The stable address of one node's NFS server: a Service without selector, and an EndpointSlice with the daemon's address. The cluster IP outlives pods and
//! their addresses, which a PersistentVolume could not: its server cannot be changed.

use std::net::IpAddr;

use cairn_crds::names;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::label;
use crate::runtime::api::metadata;
use crate::runtime::cache::Key;

/// Label of the Services and EndpointSlices of nodes: the node's name, if it can be a label's value, else its hash.
pub const NODE: &str = "jvs.io/node";
/// The port's name.
const PORT: &str = "nfs";

/// The name of a node's Service and EndpointSlice.
pub fn name(node: &str) -> String {
    label("cairn-node-", node)
}

/// The Service of a node, in the operator's namespace.
pub fn service(namespace: &str, node: &str, port: u16) -> Service {
    let key = Key::new(namespace, name(node));
    Service {
        metadata: metadata(
            &key,
            &[(names::MANAGED_BY, names::MANAGER), (NODE, &label("", node))],
        ),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT.to_owned()),
                port: i32::from(port),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(i32::from(port))),
                ..ServicePort::default()
            }]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Where the Service leads: to the daemon's address; nowhere while there is none.
pub fn endpoint_slice(
    namespace: &str,
    node: &str,
    port: u16,
    ip: Option<IpAddr>,
    is_ready: bool,
) -> EndpointSlice {
    let key = Key::new(namespace, name(node));
    let labels = [
        ("kubernetes.io/service-name", key.name.as_str()),
        ("endpointslice.kubernetes.io/managed-by", names::MANAGER),
        (names::MANAGED_BY, names::MANAGER),
        (NODE, &label("", node)),
    ];
    let endpoint = ip.map(|ip| Endpoint {
        addresses: vec![ip.to_string()],
        node_name: Some(node.to_owned()),
        conditions: Some(EndpointConditions {
            ready: Some(is_ready),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    });
    EndpointSlice {
        metadata: metadata(&key, &labels),
        address_type: match ip {
            Some(IpAddr::V6(_)) => "IPv6",
            _ => "IPv4",
        }
        .to_owned(),
        endpoints: endpoint.into_iter().collect(),
        ports: Some(vec![EndpointPort {
            name: Some(PORT.to_owned()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

/// The cluster IP of a Service, once it has one.
pub fn cluster_ip(service: &Service) -> Option<String> {
    let ip = service.spec.as_ref()?.cluster_ip.clone()?;
    ip.parse::<IpAddr>().ok().map(|_| ip)
}

#[cfg(test)]
mod tests {
    use super::{cluster_ip, endpoint_slice, name, service};

    #[test]
    fn the_slice_belongs_to_the_service() {
        let service = service("cairn", "worker-1.example", 12049);
        let slice = endpoint_slice("cairn", "worker-1.example", 12049, "fd00::1".parse().ok(), true);
        let labels = slice.metadata.labels.as_ref().unwrap();
        assert_eq!(
            labels.get("kubernetes.io/service-name"),
            service.metadata.name.as_ref()
        );
        assert_eq!(slice.address_type, "IPv6");
        assert!(name("worker-1.example").starts_with("cairn-node-worker-1-example-"));
        let away = endpoint_slice("cairn", "n", 1, None, false);
        assert!(away.endpoints.is_empty());
    }

    #[test]
    fn a_service_without_an_address_has_none() {
        let mut service = service("cairn", "n", 1);
        assert_eq!(cluster_ip(&service), None);
        if let Some(spec) = &mut service.spec {
            spec.cluster_ip = Some("None".to_owned());
        }
        assert_eq!(cluster_ip(&service), None);
        if let Some(spec) = &mut service.spec {
            spec.cluster_ip = Some("10.96.0.7".to_owned());
        }
        assert_eq!(cluster_ip(&service).as_deref(), Some("10.96.0.7"));
    }
}
