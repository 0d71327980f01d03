//! The Services of a DittoServer: the one that NFS clients use, the StatefulSet's, and that of metrics.

use std::collections::BTreeMap;

use cairn_crds::DittoServer;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::{HTTP_PORT, NFS_PORT, RPC_PORT, child, headless_name, metrics_name, selector};

fn port(name: &str, port: i32, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(i32::from(target))),
        ..ServicePort::default()
    }
}

/// The Service that NFS clients use.
pub fn nfs(server: &DittoServer) -> Service {
    let spec = &server.spec;
    let options = spec.service.clone().unwrap_or_default();
    let mut metadata = child(server, server.name_any());
    if !options.annotations.is_empty() {
        metadata.annotations = Some(options.annotations.into_iter().collect::<BTreeMap<_, _>>());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(options.type_.name().to_owned()),
            selector: Some(selector(&server.name_any())),
            ports: Some(vec![port("nfs", spec.nfs_port, NFS_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The StatefulSet's Service: a name for the pod, ready or not.
pub fn headless(server: &DittoServer) -> Service {
    Service {
        metadata: child(server, headless_name(&server.name_any())),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector(&server.name_any())),
            ports: Some(vec![
                port("nfs", i32::from(NFS_PORT), NFS_PORT),
                port("rpc", i32::from(RPC_PORT), RPC_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service of metrics; nothing if they are not wanted.
pub fn metrics(server: &DittoServer) -> Option<Service> {
    let options = server.spec.metrics.as_ref().filter(|metrics| metrics.enabled)?;
    Some(Service {
        metadata: child(server, metrics_name(&server.name_any())),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(&server.name_any())),
            ports: Some(vec![port("metrics", options.port, HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// Where NFS clients find the Service: the load balancer's address, or else the cluster IP, with the port. Nothing while there is none.
pub fn endpoint(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let port = spec.ports.as_ref()?.first()?.port;
    let balancer = || {
        let status = service.status.as_ref()?.load_balancer.as_ref()?;
        let ingress = status.ingress.as_ref()?.first()?;
        ingress.ip.clone().or_else(|| ingress.hostname.clone())
    };
    let host = match spec.type_.as_deref() {
        Some("LoadBalancer") => balancer()?,
        _ => spec
            .cluster_ip
            .clone()
            .filter(|ip| !ip.is_empty() && ip != "None")?,
    };
    Some(match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}
